"""Tables of a checkpoint: what is written and what is linked, and that what comes back is what was there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from entroreg.checkpoint import CheckpointError, Table, load_checkpoint, save_checkpoint

DTYPES = ["float64", "float32", "float16", "bool", "int64", "int32", "int16", "int8", "uint8"]
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


def _write(table: Table, start: int, stop: int) -> None:
    table.rows[start:stop] += 1
    table.mark(start, stop)


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (7, 0), (7, 2, 3), (0, 3), (1, 5)])
def test_rows_of_every_dtype_and_shape_come_back_bit_for_bit(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    bits = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 256, size, dtype=np.uint8)
    table = Table(bits.view(dtype).reshape(shape), block_bytes=24)
    table.filled = len(table.rows)
    save_checkpoint(tmp_path / "last", {}, {}, tables={"replay": table})
    for index in range(len(table.known())):
        file = tmp_path / "last" / f"replay-{index:05d}.safetensors"
        assert file.read_bytes() == safetensors.numpy.save({"rows": table.block(index)})
    loaded = Table(np.zeros(shape, dtype))
    load_checkpoint(tmp_path / "last", tables={"replay": loaded})
    assert loaded.filled == len(table.rows)
    assert loaded.rows.tobytes() == bits.tobytes()


def test_rows_beyond_those_filled_are_not_saved_and_not_touched(tmp_path: Path) -> None:
    table = _table(filled=25)
    _save(tmp_path / "last", table)
    assert [path.stat().st_size > 100 for path in sorted((tmp_path / "last").glob("replay-*"))] == [True] * 3
    loaded = _load(tmp_path / "last")
    assert loaded.filled == 25
    assert np.array_equal(loaded.rows[:25], table.rows[:25])
    assert (loaded.rows[25:] == 9).all()
    table.filled = 0
    _save(tmp_path / "last", table)
    assert _blocks(tmp_path / "last") == {}
    assert _load(tmp_path / "last").filled == 0


@pytest.mark.parametrize(
    ("change", "written"),
    [
        (lambda table: None, []),
        (lambda table: table.mark(5, 5), []),
        (lambda table: _write(table, 0, 1), [0]),
        (lambda table: _write(table, 9, 11), [0, 1]),
        (lambda table: _write(table, 10, 20), [1]),
        (lambda table: _write(table, 30, 61), [3, 4, 5]),
        (lambda table: _write(table, 0, N), [0, 1, 2, 3, 4, 5]),
        (lambda table: table.mark_all(), []),  # marked, and yet the same
        (lambda table: setattr(table, "filled", 58), [5]),
        (lambda table: setattr(table, "filled", 60), [5]),
        (lambda table: setattr(table, "filled", 75), [5, 6, 7]),
        (lambda table: setattr(table, "filled", 40), []),
        (lambda table: setattr(table, "filled", 41), [4]),
        (lambda table: setattr(table, "filled", 55), []),
    ],
)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_only_blocks_that_changed_are_written(
    tmp_path: Path, change: Callable[[Table], None], written: list[int], is_loaded: bool
) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    table = _load(tmp_path / "last") if is_loaded else table
    table.rows[55:] = 4  # not filled, so no mark is needed: filling them is one
    change(table)
    _save(tmp_path / "last", table)
    assert _written(tmp_path / "last") == written
    loaded = _load(tmp_path / "last")
    assert loaded.filled == table.filled
    assert np.array_equal(loaded.rows[: loaded.filled], table.rows[: table.filled])


class _Saves(RuleBasedStateMachine):
    """Writes, fills, saves, failed saves and loads in any order, beside a model that copies everything."""

    folders = Bundle("folders")
    root: Path

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.table = _table()
        self.saved: dict[Path, tuple[bytes, int]] = {}
        shutil.rmtree(self.root, ignore_errors=True)

    @initialize(target=folders)
    def one(self) -> Path:
        return self.root / "one"

    @initialize(target=folders)
    def other(self) -> Path:
        return self.root / "other"

    @rule(start=st.integers(0, N), count=st.integers(0, 25))
    def write(self, start: int, count: int) -> None:
        stop = min(N, start + count)
        self.number += 1
        self.table.rows[start:stop] = self.number
        self.table.mark(start, stop)

    @rule(filled=st.integers(0, N))
    def fill(self, filled: int) -> None:
        self.table.filled = filled

    @rule(folder=folders)
    def save(self, folder: Path) -> None:
        before, there = _blocks(folder), _cut(self.saved.get(folder, (b"", 0))[0])
        _save(folder, self.table)
        self.saved[folder] = self.present()
        linked = [before.get(name) == inode for name, inode in _blocks(folder).items()]
        assert linked == [there.get(index) == block for index, block in _cut(self.present()[0]).items()]

    @rule(folder=folders, call=st.integers(1, 30))
    def fail_to_save(self, folder: Path, call: int) -> None:
        known = self.table.known()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", _failing(call))
            with contextlib.suppress(OSError):
                self.save(folder)
                return
        assert self.table.known() == known
        with contextlib.suppress(FileNotFoundError):
            loaded = _load(folder)
            found = (loaded.rows[: loaded.filled].tobytes(), loaded.filled)
            # The new one, where the fsync of the parent failed, which is after the renames.
            assert found in [self.saved.get(folder), self.present()]
            self.saved[folder] = found

    @rule(folder=folders)
    def load(self, folder: Path) -> None:
        if folder in self.saved:
            load_checkpoint(folder, tables={"replay": self.table})
            assert self.present() == self.saved[folder]

    @rule(folder=folders)
    def read(self, folder: Path) -> None:
        if folder in self.saved:
            loaded = _load(folder)
            assert (loaded.rows[: loaded.filled].tobytes(), loaded.filled) == self.saved[folder]

    def present(self) -> tuple[bytes, int]:
        return self.table.rows[: self.table.filled].tobytes(), self.table.filled


def _cut(rows: bytes) -> dict[int, bytes]:
    size = BLOCK * ROW * 4
    return {start // size: rows[start : start + size] for start in range(0, len(rows), size)}


def _failing(call: int) -> Callable[[int], None]:
    """An fsync whose k-th call fails."""
    calls = itertools.count(1)

    def fsync(_: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fsync


def test_any_order_of_writes_saves_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # which is slow, and what it is for is tested elsewhere

    class Saves(_Saves):
        root = tmp_path / "machine"

    run_state_machine_as_test(Saves, settings=settings(max_examples=40, deadline=None))


def test_a_failed_save_forgets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    table.rows[12] = 7
    table.mark(12, 13)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("crash")))
        with pytest.raises(OSError, match="crash"):
            _save(tmp_path / "last", table)
    assert not np.array_equal(_load(tmp_path / "last").rows[12], table.rows[12])
    _save(tmp_path / "last", table)
    assert _written(tmp_path / "last") == [1]
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])


def test_each_checkpoint_is_complete_in_itself(tmp_path: Path) -> None:
    table = _table(filled=N)
    for step in range(4):
        table.rows[step] = step
        table.mark(step, step + 1)
        _save(tmp_path / "last", table, keep=3)
    names = ["last", "last.previous", "last.previous.2", "last.previous.3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names[1:]:
        copied = tmp_path / "copied"
        shutil.move(tmp_path / name, copied)
        newest = 3 - names.index(name)
        rows = _load(copied).rows
        assert np.array_equal(rows[: newest + 1, 0], np.arange(newest + 1.0))
        assert not np.array_equal(rows[newest + 1], [newest + 1] * ROW)
        shutil.rmtree(copied)
    assert np.array_equal(_load(tmp_path / "last").rows, table.rows)
    assert {path.stat().st_nlink for path in (tmp_path / "last").iterdir()} == {1}


def test_several_tables_and_one_by_two_names(tmp_path: Path) -> None:
    first, second = _table(filled=10), _table(filled=20, seed=1)
    tables = {"a": first, "a-00000": second, "c": second}
    save_checkpoint(tmp_path / "last", {}, {"step": 3}, tables=tables)
    loaded = {name: Table(np.zeros((N, ROW), np.float32)) for name in tables}
    assert load_checkpoint(tmp_path / "last", tables=loaded)[1] == {"step": 3}
    for name, table in tables.items():
        assert np.array_equal(loaded[name].rows[: table.filled], table.rows[: table.filled])


def test_a_table_with_other_blocks_reads_the_same_rows_and_writes_them_all(tmp_path: Path) -> None:
    table = _table(filled=55)
    _save(tmp_path / "last", table)
    loaded = _load(tmp_path / "last", block_bytes=7 * ROW * 4)
    assert np.array_equal(loaded.rows[:55], table.rows[:55])
    _save(tmp_path / "last", loaded)
    assert _written(tmp_path / "last") == list(range(8))
    assert np.array_equal(_load(tmp_path / "last").rows[:55], table.rows[:55])


def test_reading_takes_no_second_copy(tmp_path: Path) -> None:
    table = Table(np.ones((1 << 16, 64), np.float32), block_bytes=1 << 20)  # 16 MiB
    table.filled = len(table.rows)
    save_checkpoint(tmp_path / "last", {}, {}, tables={"replay": table})
    table.rows[...] = 0
    tracemalloc.start()
    load_checkpoint(tmp_path / "last", tables={"replay": table})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (table.rows == 1).all()
    assert peak < 4 << 20, peak


# --- what is linked


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


# --- what is read, and what is not


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
