"""Blocks of a table that did not change: hard links where there can be some, and only to what is the same."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from saved_tables import load_table, new_table, save_table, written_blocks


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_block_that_is_damaged_in_the_checkpoint_before_is_written_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    damage(tmp_path / "last" / "replay-00002.safetensors")
    save_table(tmp_path / "last", table)
    assert 2 in written_blocks(tmp_path / "last")
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])


def test_nothing_is_linked_to_a_checkpoint_whose_manifest_cannot_be_read(tmp_path: Path) -> None:
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    (tmp_path / "last" / "manifest.json").write_text("{")
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == list(range(6))
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])


def test_what_another_table_saved_there_is_not_taken_for_this_one_s(tmp_path: Path) -> None:
    table, other = new_table(filled=55), new_table(filled=55, seed=1)
    other.rows[:10] = table.rows[:10]
    other.mark(0, 10)
    save_table(tmp_path / "last", table)
    save_table(tmp_path / "last", other)
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == [1, 2, 3, 4, 5]
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])


def test_after_a_crash_between_the_renames_the_previous_one_is_linked_to(tmp_path: Path) -> None:
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    (tmp_path / "last").rename(tmp_path / "last.previous")
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP])
def test_where_links_do_not_work_blocks_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    monkeypatch.setattr(os, "link", refuse)
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == list(range(6))
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])


def test_another_error_of_a_link_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        with pytest.raises(OSError, match="Input/output error"):
            save_table(tmp_path / "last", table)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])


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
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    unlinkable(tmp_path / "last" / "replay-00003.safetensors")
    with pytest.raises(PermissionError):
        os.link(tmp_path / "last" / "replay-00003.safetensors", tmp_path / "link")
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == [3]
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])
