"""Tables of a checkpoint: what is written and what is linked, and that what comes back is what was there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from saved_tables import BLOCK, ROW, N, inodes_of, load_table, new_table, save_table, written_blocks

from entroreg.checkpoint import Table, load_checkpoint, save_checkpoint

DTYPES = ["float64", "float32", "float16", "bool", "int64", "int32", "int16", "int8", "uint8"]


def _write(table: Table, start: int, stop: int) -> None:
    table.rows[start:stop] += 1
    table.mark(start, stop)


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
    table = new_table(filled=25)
    save_table(tmp_path / "last", table)
    assert [path.stat().st_size > 100 for path in sorted((tmp_path / "last").glob("replay-*"))] == [True] * 3
    loaded = load_table(tmp_path / "last")
    assert loaded.filled == 25
    assert np.array_equal(loaded.rows[:25], table.rows[:25])
    assert (loaded.rows[25:] == 9).all()
    table.filled = 0
    save_table(tmp_path / "last", table)
    assert inodes_of(tmp_path / "last") == {}
    assert load_table(tmp_path / "last").filled == 0


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
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    table = load_table(tmp_path / "last") if is_loaded else table
    table.rows[55:] = 4  # not filled, so no mark is needed: filling them is one
    change(table)
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == written
    loaded = load_table(tmp_path / "last")
    assert loaded.filled == table.filled
    assert np.array_equal(loaded.rows[: loaded.filled], table.rows[: table.filled])


def test_a_block_that_is_not_marked_is_not_looked_at(tmp_path: Path) -> None:
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    table.rows[[12, 33]] = 7
    table.mark(33, 34)
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == [3]
    assert (load_table(tmp_path / "last").rows == 7).all(axis=1).nonzero()[0].tolist() == [33]


def test_where_all_is_marked_every_block_that_changed_is_written(tmp_path: Path) -> None:
    table = new_table(filled=N)
    save_table(tmp_path / "last", table)
    table.rows[[0, N - 1]] = 7
    table.mark_all()
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == [0, N // BLOCK - 1]
    assert np.array_equal(load_table(tmp_path / "last").rows, table.rows)


class _Saves(RuleBasedStateMachine):
    """Writes, fills, saves, failed saves and loads in any order, beside a model that copies everything."""

    folders = Bundle("folders")
    root: Path

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.table = new_table()
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
        before, there = inodes_of(folder), _cut(self.saved.get(folder, (b"", 0))[0])
        save_table(folder, self.table)
        self.saved[folder] = self.present()
        linked = [before.get(name) == inode for name, inode in inodes_of(folder).items()]
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
            loaded = load_table(folder)
            found = (loaded.rows[: loaded.filled].tobytes(), loaded.filled)
            # The new one, where the fsync of the parent failed, which is after the renames.
            assert found in [self.saved.get(folder), self.present()]
            self.saved[folder] = found

    @rule(folder=folders)
    def load_table(self, folder: Path) -> None:
        if folder in self.saved:
            load_checkpoint(folder, tables={"replay": self.table})
            assert self.present() == self.saved[folder]

    @rule(folder=folders)
    def read(self, folder: Path) -> None:
        if folder in self.saved:
            loaded = load_table(folder)
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
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    table.rows[12] = 7
    table.mark(12, 13)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("crash")))
        with pytest.raises(OSError, match="crash"):
            save_table(tmp_path / "last", table)
    assert not np.array_equal(load_table(tmp_path / "last").rows[12], table.rows[12])
    save_table(tmp_path / "last", table)
    assert written_blocks(tmp_path / "last") == [1]
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])


def test_each_checkpoint_is_complete_in_itself(tmp_path: Path) -> None:
    table = new_table(filled=N)
    for step in range(4):
        table.rows[step] = step
        table.mark(step, step + 1)
        save_table(tmp_path / "last", table, keep=3)
    names = ["last", "last.previous", "last.previous.2", "last.previous.3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names[1:]:
        copied = tmp_path / "copied"
        shutil.move(tmp_path / name, copied)
        newest = 3 - names.index(name)
        rows = load_table(copied).rows
        assert np.array_equal(rows[: newest + 1, 0], np.arange(newest + 1.0))
        assert not np.array_equal(rows[newest + 1], [newest + 1] * ROW)
        shutil.rmtree(copied)
    assert np.array_equal(load_table(tmp_path / "last").rows, table.rows)
    assert {path.stat().st_nlink for path in (tmp_path / "last").iterdir()} == {1}


def test_several_tables_and_one_by_two_names(tmp_path: Path) -> None:
    first, second = new_table(filled=10), new_table(filled=20, seed=1)
    tables = {"a": first, "a-00000": second, "c": second}
    save_checkpoint(tmp_path / "last", {}, {"step": 3}, tables=tables)
    loaded = {name: Table(np.zeros((N, ROW), np.float32)) for name in tables}
    assert load_checkpoint(tmp_path / "last", tables=loaded)[1] == {"step": 3}
    for name, table in tables.items():
        assert np.array_equal(loaded[name].rows[: table.filled], table.rows[: table.filled])


def test_a_table_with_other_blocks_reads_the_same_rows_and_writes_them_all(tmp_path: Path) -> None:
    table = new_table(filled=55)
    save_table(tmp_path / "last", table)
    loaded = load_table(tmp_path / "last", block_bytes=7 * ROW * 4)
    assert np.array_equal(loaded.rows[:55], table.rows[:55])
    save_table(tmp_path / "last", loaded)
    assert written_blocks(tmp_path / "last") == list(range(8))
    assert np.array_equal(load_table(tmp_path / "last").rows[:55], table.rows[:55])


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
