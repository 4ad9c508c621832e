"""Blocks of a table that did not change: hard links where there can be some, and only to what is the same."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from entroreg.checkpoint import Table, load_checkpoint, save_checkpoint

N, ROW, BLOCK = 100, 3, 10  # rows, numbers in each, rows of a block


def _table(filled: int = 0, seed: int = 0) -> Table:
    rows = np.random.default_rng(seed).standard_normal((N, ROW)).astype(np.float32)
    table = Table(rows, block_bytes=BLOCK * ROW * 4)
    table.filled = filled
    return table


def _save(folder: Path, table: Table, keep: int = 1) -> None:
    save_checkpoint(folder, {"weight": torch.ones(2)}, {"step": 1}, tables={"replay": table}, keep=keep)


def _load(folder: Path, **settings: Any) -> Table:
    table = Table(np.full((N, ROW), 9, np.float32), **{"block_bytes": BLOCK * ROW * 4, **settings})
    load_checkpoint(folder, tables={"replay": table})
    return table


def _blocks(folder: Path) -> dict[str, int]:
    """The inodes of a checkpoint's blocks."""
    return {path.name: path.stat().st_ino for path in sorted(folder.glob("replay-*"))}


def _written(folder: Path) -> list[int]:
    """Which blocks are not those of the checkpoint before."""
    before = _blocks(folder.with_name(f"{folder.name}.previous"))
    return [index for index, (name, inode) in enumerate(_blocks(folder).items()) if before.get(name) != inode]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_block_that_is_damaged_in_the_checkpoint_before_is_written_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    damage(tmp_path / "last" / "replay-00002.safetensors")
    _save(tmp_path / "last", table)
    assert 2 in _written(tmp_path / "last")
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])


def test_nothing_is_linked_to_a_checkpoint_whose_manifest_cannot_be_read(tmp_path: Path) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    (tmp_path / "last" / "manifest.json").write_text("{")
    _save(tmp_path / "last", table)
    assert _written(tmp_path / "last") == list(range(6))
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])


def test_what_another_table_saved_there_is_not_taken_for_this_one_s(tmp_path: Path) -> None:
    table, other = _table(filled=55), _table(filled=55, seed=1)
    other.rows[:10] = table.rows[:10]
    other.mark(0, 10)
    _save(tmp_path / "last", table)
    _save(tmp_path / "last", other)
    _save(tmp_path / "last", table)
    assert _written(tmp_path / "last") == [1, 2, 3, 4, 5]
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])


def test_after_a_crash_between_the_renames_the_previous_one_is_linked_to(tmp_path: Path) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    (tmp_path / "last").rename(tmp_path / "last.previous")
    _save(tmp_path / "last", table)
    assert _written(tmp_path / "last") == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP])
def test_where_links_do_not_work_blocks_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    table = _table(filled=55)
    _save(tmp_path / "last", table)
    monkeypatch.setattr(os, "link", refuse)
    _save(tmp_path / "last", table)
    assert _written(tmp_path / "last") == list(range(6))
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])


def test_another_error_of_a_link_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    table = _table(filled=55)
    _save(tmp_path / "last", table)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        with pytest.raises(OSError, match="Input/output error"):
            _save(tmp_path / "last", table)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])


@pytest.fixture
def unlinkable(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """A function that makes a file one that the kernel lets nobody link to."""
    locked: list[int] = []

    def lock(path: Path) -> None:
        if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", path], capture_output=True).returncode:
            pytest.skip("needs the right to make a file immutable")
        locked.append(path.stat().st_ino)

    yield lock
    for path in tmp_path.rglob("*"):
        if path.stat().st_ino in locked:
            subprocess.run(["chattr", "-i", path], check=True)


def test_a_file_that_the_kernel_refuses_to_link_is_written(
    tmp_path: Path, unlinkable: Callable[[Path], None]
) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    unlinkable(tmp_path / "last" / "replay-00003.safetensors")
    with pytest.raises(PermissionError):
        os.link(tmp_path / "last" / "replay-00003.safetensors", tmp_path / "link")
    _save(tmp_path / "last", table)
    assert _written(tmp_path / "last") == [3]
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])
