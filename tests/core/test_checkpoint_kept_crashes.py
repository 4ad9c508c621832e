"""Crashes in saves with tables that keep several older checkpoints: none of those to keep is ever lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from entroreg.checkpoint import Table, load_checkpoint, save_checkpoint

CALLS = ("fsync", "replace", "rename", "mkdir", "link", "unlink", "rmdir")


def _table() -> Table:
    return Table(np.zeros((50, 2), np.float32), block_bytes=10 * 8)


def _step_on(table: Table, step: int) -> None:
    """Write a row in two of the blocks and fill one row more."""
    for row in (step % 20, 25 + step):
        table.rows[row] = step
        table.mark(row, row + 1)
    table.filled = 30 + step


def _expected(step: int) -> np.ndarray:
    table = _table()
    for earlier in range(step + 1):
        _step_on(table, earlier)
    return table.rows[: table.filled]


def _save(folder: Path, step: int, table: Table, keep: int) -> None:
    _step_on(table, step)
    save_checkpoint(folder, {"step": torch.tensor(step)}, {"step": step}, tables={"replay": table}, keep=keep)


def _step(folder: Path) -> int:
    """Which save is there, checked to be one and the same in tensors, metadata and table."""
    table = _table()
    tensors, metadata = load_checkpoint(folder, tables={"replay": table})
    assert tensors["step"] == metadata["step"]
    assert np.array_equal(table.rows[: table.filled], _expected(metadata["step"]))
    return int(metadata["step"])


def _steps(folder: Path) -> list[int]:
    """The saves that are there, from the newest."""
    names = ["last", "last.previous", *(f"last.previous.{number}" for number in range(2, 10))]
    return [_step(folder / name) for name in names if (folder / name).exists()]


class _Interrupted:
    """Stands in for some functions of ``os``, counts their calls and raises an error instead of the k-th one."""

    def __init__(self, patch: pytest.MonkeyPatch, k: int, error: BaseException) -> None:
        self.calls = 0
        for name in CALLS[:5]:
            patch.setattr(os, name, self._wrap(getattr(os, name), k, error))

    def _wrap(self, real: Callable[..., None], k: int, error: BaseException) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            self.calls += 1
            if self.calls == k:
                raise error
            real(*args, **kwargs)

        return call


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(("saves", "keep"), [(2, 1), (2, 3), (4, 3), (5, 3)])
def test_an_error_at_any_step_moves_nothing(memory_path: Path, saves: int, keep: int, error: BaseException) -> None:
    old = list(range(saves - 1, max(-1, saves - keep - 2), -1))
    new = [saves, *old[:keep]]
    found = []
    for k in range(2, 100):  # the first call makes the parent, which is there
        folder, table = memory_path / str(k), _table()
        for step in range(saves):
            _save(folder / "last", step, table, keep)
        with pytest.MonkeyPatch.context() as patch:
            interrupted = _Interrupted(patch, k, error)
            with contextlib.suppress(type(error)):
                _save(folder / "last", saves, table, keep)
        if interrupted.calls < k:
            break
        found.append(_steps(folder))
        assert len(list(folder.iterdir())) == len(found[-1])  # and nothing hidden
        _save(folder / "last", saves + 1, table, keep)
        assert _steps(folder) == [saves + 1, *found[-1][:keep]]
    assert found == [old] * (len(found) - 1) + [new]  # the last call syncs the names, by then the new ones
    assert len(found) > 14


_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_checkpoint_kept_crashes import CALLS, _save, _table, load_checkpoint

root, saves, keep = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
calls = 0

def wrap(real, k):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == k:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

for k in range(2, 200):
    table = _table()
    for step in range(saves):
        _save(root / str(k) / "last", step, table, keep)
    child = os.fork()
    if child == 0:
        table = _table()
        load_checkpoint(root / str(k) / "last", tables={"replay": table})
        for name in CALLS:
            setattr(os, name, wrap(getattr(os, name), k))
        _save(root / str(k) / "last", saves, table, keep)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
"""


@pytest.mark.parametrize(("saves", "keep"), [(1, 2), (4, 2)])
def test_a_kill_at_any_step_loses_none_of_those_to_keep(memory_path: Path, saves: int, keep: int) -> None:
    command = [sys.executable, "-c", _KILLED, str(Path(__file__).parent), str(memory_path), str(saves), str(keep)]
    run = subprocess.run(command, check=False, timeout=200, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    old = list(range(saves - 1, max(-1, saves - keep - 2), -1))
    newest = []
    for k in range(2, len(list(memory_path.iterdir())) + 2):
        folder = memory_path / str(k)
        newest.append(_step(folder / "last"))
        found = _steps(folder)
        assert found == sorted(found, reverse=True)
        assert set(old[:keep]) <= set(found) <= {saves, *old}
        table = _table()
        load_checkpoint(folder / "last", tables={"replay": table})
        if newest[-1] == saves - 1:
            _save(folder / "last", saves, table, keep)
            assert _steps(folder) == [saves, *old[:keep]]
        assert not [path for path in folder.iterdir() if path.name.startswith(".") and newest[-1] < saves]
    assert newest == sorted(newest)
    assert set(newest) == {saves - 1, saves}
    assert len(newest) > 14


def test_a_gap_that_a_crash_left_is_closed_and_older_ones_stay(memory_path: Path) -> None:
    table = _table()
    for step in range(4):
        _save(memory_path / "last", step, table, keep=3)
    (memory_path / "last.previous").rename(memory_path / "moved")
    _save(memory_path / "last", 4, table, keep=3)
    assert _steps(memory_path) == [4, 3, 1, 0]
    _save(memory_path / "last", 5, table, keep=3)
    assert _steps(memory_path) == [5, 4, 3, 1]
