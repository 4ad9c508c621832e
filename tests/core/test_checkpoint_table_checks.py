"""What of a checkpoint's tables is read, checked and refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from saved_tables import ROW, N, load_table, new_table, save_table, written_blocks

from entroreg.checkpoint import CheckpointError, Table, load_checkpoint, save_checkpoint


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.unlink()  # the blocks of other checkpoints may be the same file
    path.write_bytes(data)


def test_without_tables_blocks_are_not_read_but_must_be_there(tmp_path: Path) -> None:
    save_table(tmp_path / "last", new_table(filled=55))
    block = tmp_path / "last" / "replay-00001.safetensors"
    _flip_a_bit(block)
    assert load_checkpoint(tmp_path / "last")[1] == {"step": 1}
    with pytest.raises(CheckpointError, match=r"replay-00001.safetensors is not as .*manifest.json says: expected"):
        load_table(tmp_path / "last")
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"replay-00001.safetensors is not as .*: expected \d+ bytes, got \d+"
    ):
        load_checkpoint(tmp_path / "last")
    block.unlink()
    with pytest.raises(CheckpointError, match=r"replay-00001.safetensors"):
        load_checkpoint(tmp_path / "last")


def test_after_a_failed_load_nothing_is_remembered(tmp_path: Path) -> None:
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    _flip_a_bit(tmp_path / "last" / "replay-00004.safetensors")
    other = new_table(filled=30, seed=1)
    save_table(tmp_path / "other", other)
    with pytest.raises(CheckpointError, match="replay-00004"):
        load_checkpoint(tmp_path / "last", tables={"replay": other})
    assert other.filled == 30
    save_table(tmp_path / "other", other)
    assert written_blocks(tmp_path / "other") == [0, 1, 2]
    assert np.array_equal(load_table(tmp_path / "other").rows[:30], table.rows[:30])


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
    table = new_table(filled=55)
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
        load_table(tmp_path / "last")


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
    table = new_table()
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
        ([new_table()], TypeError, "tables must be a mapping, got list: pass a dict"),
        ({1: new_table()}, TypeError, "tables must have string names, got 1"),
        ({"replay": np.ones((2, 2))}, TypeError, "tables['replay'] must be a Table, got ndarray: use Table(rows)"),
        *(
            ({name: new_table()}, ValueError, f"and begin with none of the last two, got {name!r}: rename it")
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
    save_table(tmp_path / "last", new_table())
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
    save_table(tmp_path / "last", table)
    assert (load_table(tmp_path / "last").rows == 1).all()
    with pytest.raises(ValueError, match="must have rows that can be written to, got a read-only array: copy it"):
        load_checkpoint(tmp_path / "last", tables={"replay": table})


def test_the_manifest_lists_every_block(tmp_path: Path) -> None:
    save_table(tmp_path / "last", new_table(filled=55))
    manifest = json.loads((tmp_path / "last" / "manifest.json").read_bytes())
    assert manifest["schema_version"] == 2
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "last").iterdir()} - {"manifest.json"}
