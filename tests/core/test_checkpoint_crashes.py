"""Crashes and readers beside a save: what is left is always the old checkpoint or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from entroreg.checkpoint import CheckpointError, load_checkpoint, reading, save_checkpoint

FILES = ["manifest.json", "metadata.json", "tensors.safetensors"]


def _save(folder: Path, step: int) -> None:
    save_checkpoint(folder, {"weight": torch.full((300,), float(step))}, {"step": step})


def _step(folder: Path) -> int:
    """Which save is there, checked to be one and the same in tensors and metadata."""
    tensors, metadata = load_checkpoint(folder)
    assert torch.equal(tensors["weight"], torch.full((300,), float(metadata["step"])))
    return int(metadata["step"])


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class _Crash:
    """Stands in for some functions of ``os``, counts their calls and acts instead of the k-th one."""

    def __init__(self, patch: pytest.MonkeyPatch, k: int, error: BaseException) -> None:
        self.calls = 0
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, self._wrap(getattr(os, name), k, error))

    def _wrap(self, real: Callable[..., None], k: int, error: BaseException) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            self.calls += 1
            if self.calls == k:
                raise error
            real(*args, **kwargs)

        return call


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("saves", [1, 2, 3])
def test_an_error_at_any_step_leaves_the_old_or_the_new(
    memory_path: Path, saves: int, error: BaseException
) -> None:
    steps = []
    for k in range(1, 100):
        folder = memory_path / str(k) / "last"
        for step in range(saves):
            _save(folder, step)
        with pytest.MonkeyPatch.context() as patch:
            crash = _Crash(patch, k, error)
            was_saved = False
            with contextlib.suppress(type(error)):
                _save(folder, saves)
                was_saved = True
        assert was_saved == (crash.calls < k) or k == 1  # the first call makes the parent, which is there
        if crash.calls < k:
            break
        steps.append(_step(folder))
        assert set(_names(folder.parent)) <= {"last", "last.previous"}
        _save(folder, 99)
        assert _step(folder) == 99
    assert len(steps) >= 12
    assert set(steps) == {saves - 1, saves}
    assert steps[1:] == sorted(steps[1:])


_KILLED = """
import os, signal, sys
import torch
from entroreg.checkpoint import save_checkpoint

folder, first = sys.argv[1], int(sys.argv[2])
calls = 0

def wrap(real):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == k:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

for k in range(1, 100):
    child = os.fork()
    if child == 0:
        for name in ("fsync", "replace", "rename", "mkdir", "rmdir"):
            setattr(os, name, wrap(getattr(os, name)))
        save_checkpoint(f"{folder}/{k}/last", {"weight": torch.full((300,), float(first))}, {"step": first})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status) or k)
"""


@pytest.mark.parametrize("saves", [1, 2])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(memory_path: Path, saves: int) -> None:
    for k in range(1, 30):
        for step in range(saves):
            _save(memory_path / str(k) / "last", step)
    command = [sys.executable, "-c", _KILLED, str(memory_path), str(saves)]
    last = subprocess.run(command, check=False, timeout=120).returncode
    assert 12 < last < 30
    steps = [_step(memory_path / str(k) / "last") for k in range(1, last + 1)]
    assert set(steps) == {saves - 1, saves}
    assert steps == sorted(steps)
    leftovers = 0
    for k in range(1, last + 1):
        leftovers += any(name.endswith(".saving") for name in _names(memory_path / str(k)))
        _save(memory_path / str(k) / "last", 99)
        assert _names(memory_path / str(k)) == ["last", "last.previous"]
        assert _step(memory_path / str(k) / "last") == 99
    assert leftovers > 0  # a kill does leave some; the next save removed them


_SAVING = """
import sys
import torch
from entroreg.checkpoint import save_checkpoint

for step in range(1, 10**9):
    save_checkpoint(sys.argv[1], {"weight": torch.full((300,), float(step))}, {"step": step})
    print(step, flush=True)
"""


def test_a_kill_in_the_midst_of_saving_and_a_reader_beside_it(memory_path: Path) -> None:
    folder = memory_path / "last"
    for last in (3, 25):
        command = [sys.executable, "-c", _SAVING, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            printed = [process.stdout.readline()]
            seen = [_step(folder)]
            while seen[-1] < last:
                seen.append(_step(folder))
            process.kill()
            printed += process.stdout.readlines()
        assert seen == sorted(seen)
        # One more than the last that was printed, if the kill fell between the save and the print.
        assert _step(folder) - int(printed[-1]) in {0, 1}
        shutil.rmtree(folder, ignore_errors=True)


def test_all_is_on_disk_before_the_renames_and_they_are_after_them(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = memory_path / "last"
    _save(folder, 1)
    synced: list[set[int]] = [set()]  # the inodes synced before the first rename, between it and the second, after
    fsync, rename = os.fsync, os.rename

    def spy_fsync(descriptor: int) -> None:
        synced[-1].add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def spy_rename(source: Path, target: Path) -> None:
        synced.append(set())
        rename(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    _save(folder, 2)
    assert {path.stat().st_ino for path in (folder, *(folder / name for name in FILES))} <= synced[0]
    assert synced[1:] == [set(), {memory_path.stat().st_ino}]


def test_after_a_crash_between_the_renames_the_previous_one_survives_the_next_crash(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = memory_path / "last"
    _save(folder, 5)
    folder.rename(memory_path / "last.previous")
    assert _step(folder) == 5
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("crash")))
        with pytest.raises(OSError, match="crash"):
            _save(folder, 6)
    assert _step(folder) == 5
    _save(folder, 7)
    assert _step(folder) == 7
    assert _step(memory_path / "last.previous") == 5


def test_a_save_while_reading_makes_the_reader_start_again(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = memory_path / "last"
    _save(folder, 1)
    for name in ("verify", "load_file"):
        real = getattr(reading, name)
        saved: list[bool] = []

        def interleaved(*args: Any, real: Any = real, saved: list[bool] = saved) -> Any:
            if not saved:
                saved.append(True)
                with monkeypatch.context() as patch:
                    patch.undo()
                    _save(folder, 2)
                    _save(folder, 3)
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(reading, name, interleaved)
            assert _step(folder) == 3
        _save(folder, 1)


def test_a_reader_that_is_always_overtaken_says_so(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = memory_path / "last"
    _save(folder, 1)

    def overtaken(path: Path) -> Any:
        loaded = load_file(path)
        _save(folder, 2)
        return loaded

    monkeypatch.setattr(reading, "load_file", overtaken)
    with pytest.raises(
        CheckpointError, match=r"last must stay while it is read, got 100 saves meanwhile: save less"
    ):
        load_checkpoint(folder)


def test_a_checkpoint_whose_names_move_while_it_is_looked_for_is_found(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(memory_path / "last", 1)
    answers: list[None] = [None, None]
    real = reading._identity
    monkeypatch.setattr(reading, "_identity", lambda path: answers.pop() if answers else real(path))
    assert _step(memory_path / "last") == 1
