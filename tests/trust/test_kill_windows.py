"""SIGKILL at each call of a run that changes a file, and within a row: the run that goes on ends the same."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import DISTILLATION, MIL, QARL, RLVR, distillation_run, mil_run, qarl_run, rlvr_run, write_data
from run_history import LAST, Run, Saved, compare

from entroreg.benchmarks.row_file import RowFile

NEVER: Callable[[], bool] = lambda: False  # noqa: E731
# As short as a run can be that has all kinds of windows; each keeps one older checkpoint, as runs do.
RUNS = {
    "rlvr": rlvr_run(replace(RLVR, steps=2, keep=1)),
    "mil": mil_run(replace(MIL, fit=replace(MIL.fit, epochs=2, patience=None), run=replace(MIL.run, keep=1))),
    "distillation": distillation_run(
        replace(
            DISTILLATION,
            fit=replace(DISTILLATION.fit, epochs=1, log_every=2),
            run=replace(DISTILLATION.run, keep=1),
        )
    ),
    "qarl": qarl_run(
        replace(
            QARL,
            run=replace(QARL.run, steps=60, keep=1),
            players=replace(QARL.players, learning_starts=10, episodes=2),
            curriculum=replace(QARL.curriculum, return_floor=None, reference_steps=40),
        )
    ),
}
CALLS = ("fsync", "replace", "rename", "mkdir", "link", "unlink", "rmdir")


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    torch.set_num_threads(1)
    write_data(tmp_path)
    return RUNS[request.param]


def _left(run: Run, folder: Path) -> list[Any]:
    """Return what is left of a run: its outcome, its checkpoints, and the names of all files but TensorBoard's."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    last = Saved.read(folder / LAST)
    return [run.outcome(folder), last, [name for name in names if not name.startswith("tb/")]]


@contextmanager
def _dying(at: int) -> Iterator[Callable[[], int]]:
    """Kill this process at one of the calls inside the block; what is yielded says how many there were."""
    count = 0

    def counted() -> None:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            counted()
            return real(*arguments, **settings)

        return call

    def torn(rows: RowFile, row: dict[str, Any]) -> None:
        rows._file.write('{"half of a row": ')
        rows._file.flush()
        counted()
        rows._file.seek(rows._file.seek(0, os.SEEK_END) - len('{"half of a row": '))
        rows._file.truncate()
        write(rows, row)
        counted()

    write = RowFile.write
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, before(getattr(os, name)))
        patch.setattr(RowFile, "write", torn)
        yield lambda: count


def _killed(run: Run, folder: Path, at: int) -> bool:
    """Run in a process of its own that is killed at one of its calls; return whether it came so far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of this process that the child does without
        child = os.fork()
    if child == 0:
        try:
            with _dying(at):
                run.train(folder, True, NEVER)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the run failed: {status}"
    return status == signal.SIGKILL


def _check(run: Run, tmp_path: Path, chosen: Callable[[int], range]) -> str:
    whole = tmp_path / "whole"
    with _dying(0) as count:
        assert run.train(whole, True, NEVER)
        calls = count()
    expected = _left(run, whole)
    kills = 0
    for at in chosen(calls):
        folder = tmp_path / f"killed-{at}"
        kills += _killed(run, folder, at)
        assert run.train(folder, True, NEVER)
        compared = compare(expected, _left(run, folder))
        assert compared.differing == {}, f"killed at call {at} of {calls}"
    assert kills
    return f"{run.name}: killed at {kills} of some {calls} calls, {kills} times it went on to the undisturbed end"


def test_some_windows(run: Run, tmp_path: Path) -> None:
    print(_check(run, tmp_path, lambda calls: range(calls // 14, calls, calls // 7)))


@pytest.mark.slow
def test_every_window(run: Run, tmp_path: Path) -> None:
    print(_check(run, tmp_path, lambda calls: range(1, calls + 1)))
