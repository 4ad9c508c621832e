"""What of a checkpoint's tables is read, checked and refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from entroreg.checkpoint import CheckpointError, Table, load_checkpoint, save_checkpoint

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


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.unlink()  # the blocks of other checkpoints may be the same file
    path.write_bytes(data)


def test_without_tables_blocks_are_not_read_but_must_be_there(tmp_path: Path) -> None:
    _save(tmp_path / "last", _table(filled=55))
    block = tmp_path / "last" / "replay-00001.safetensors"
    _flip_a_bit(block)
    assert load_checkpoint(tmp_path / "last")[1] == {"step": 1}
    with pytest.raises(CheckpointError, match=r"replay-00001.safetensors is not as .*manifest.json says: expected"):
        _load(tmp_path / "last")
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"replay-00001.safetensors is not as .*: expected \d+ bytes, got \d+"
    ):
        load_checkpoint(tmp_path / "last")
    block.unlink()
    with pytest.raises(CheckpointError, match=r"replay-00001.safetensors"):
        load_checkpoint(tmp_path / "last")


def test_after_a_failed_load_nothing_is_remembered(tmp_path: Path) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    _flip_a_bit(tmp_path / "last" / "replay-00004.safetensors")
    other = _table(filled=30, seed=1)
    _save(tmp_path / "other", other)
    with pytest.raises(CheckpointError, match="replay-00004"):
        load_checkpoint(tmp_path / "last", tables={"replay": other})
    assert other.filled == 30
    _save(tmp_path / "other", other)
    assert _written(tmp_path / "other") == [0, 1, 2]
    assert np.array_equal(_load(tmp_path / "other").rows[:30], table.rows[:30])


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        (
            "reply",
            np.zeros((N, ROW), np.float32),
            "must have a table 'reply', got ['good', 'replay']: leave it out of tables",
        ),
        (
            "replay",
            np.zeros((N, ROW), np.float64),
            "must have rows of float64 and shape (3,), got 'float32' and (3,)",
        ),
        (
            "replay",
            np.zeros((N, 4), np.float32),
            "must have rows of float32 and shape (4,), got 'float32' and (3,)",
        ),
        ("replay", np.zeros(N, np.float32), "must have rows of float32 and shape (), got 'float32' and (3,)"),
        ("replay", np.zeros((54, ROW), np.float32), "must have at most 54 rows, the room there is, got 55: make"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, rows: np.ndarray, message: str
) -> None:
    table = _table(filled=55)
    save_checkpoint(tmp_path / "last", {}, {}, tables={"replay": table, "good": table})
    good = Table(np.zeros((N, ROW), np.float32))
    with pytest.raises(ValueError, match=re.escape(message)):
        load_checkpoint(tmp_path / "last", tables={"good": good, name: Table(rows)})
    assert not good.rows.any()
    assert not rows.any()
    assert good.filled == 0


def test_a_checkpoint_without_tables_has_none(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", {}, {})
    with pytest.raises(ValueError, match=r"must have a table 'replay', got \[\]"):
        _load(tmp_path / "last")


# --- wrong use


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (([[1.0]],), TypeError, "rows must be a NumPy array, got list: use tensor.numpy()"),
        ((torch.ones(2, 2),), TypeError, "rows must be a NumPy array, got Tensor"),
        ((np.ones(2, complex),), TypeError, "rows must be real, integer or boolean, got complex128: convert"),
        ((np.ones(2, ">f4"),), TypeError, "rows must be real, integer or boolean, got >f4"),
        ((np.ones(2, np.uint16),), TypeError, "got uint16"),
        ((np.array(["a"]),), TypeError, "got <U1"),
        ((np.array([None]),), TypeError, "got object"),
        ((np.ones((4, 4))[:, :2],), ValueError, "rows must be C-contiguous and have a dimension, got shape (4, 2)"),
        ((np.array(1.0),), ValueError, "rows must be C-contiguous and have a dimension, got shape ()"),
    ],
)
def test_what_cannot_be_a_table_is_refused(arguments: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        Table(*arguments)


def test_wrong_rows_are_refused() -> None:
    table = _table()
    with pytest.raises(ValueError, match="block_bytes must be positive, got 0"):
        Table(table.rows, block_bytes=0)
    for filled in (-1, N + 1):
        with pytest.raises(ValueError, match=f"filled must be 0 to 100, the number of rows, got {filled}"):
            table.filled = filled
    for start, stop in ((-1, 2), (0, N + 1), (5, 4)):
        with pytest.raises(ValueError, match=f"in 0 to 100, got {start} to {stop}: mark the two parts of a range"):
            table.mark(start, stop)
    assert table.filled == 0
    assert Table(table.rows, block_bytes=1).block_rows == 1


@pytest.mark.parametrize(
    ("tables", "kind", "message"),
    [
        ([_table()], TypeError, "tables must be a mapping, got list: pass a dict"),
        ({1: _table()}, TypeError, "tables must have string names, got 1"),
        ({"replay": np.ones((2, 2))}, TypeError, "tables['replay'] must be a Table, got ndarray: use Table(rows)"),
        *(
            ({name: _table()}, ValueError, f"and begin with none of the last two, got {name!r}: rename it")
            for name in (
                "",
                ".",
                "..",
                "a/b",
                "../a",
                "/a",
                "a\\b",
                ".a",
                "-a",
                "a\n",
                "ä",
                "a" * 101,
                "a b",
                "a\0",
            )
        ),
    ],
)
def test_what_is_no_table_or_has_no_name_is_refused(
    tmp_path: Path, tables: Any, kind: type[Exception], message: str
) -> None:
    _save(tmp_path / "last", _table())
    with pytest.raises(kind, match=re.escape(message)):
        save_checkpoint(tmp_path / "last", {}, {}, tables=tables)
    with pytest.raises(kind, match=re.escape(message)):
        load_checkpoint(tmp_path / "last", tables=tables)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_rows_that_cannot_be_written_to_are_saved_but_not_loaded(tmp_path: Path) -> None:
    rows = np.ones((N, ROW), np.float32)
    rows.setflags(write=False)
    table = Table(rows)
    table.filled = N
    _save(tmp_path / "last", table)
    assert (_load(tmp_path / "last").rows == 1).all()
    with pytest.raises(ValueError, match="must have rows that can be written to, got a read-only array: copy it"):
        load_checkpoint(tmp_path / "last", tables={"replay": table})


def test_the_manifest_lists_every_block(tmp_path: Path) -> None:
    _save(tmp_path / "last", _table(filled=55))
    manifest = json.loads((tmp_path / "last" / "manifest.json").read_bytes())
    assert manifest["schema_version"] == 2
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "last").iterdir()} - {"manifest.json"}
