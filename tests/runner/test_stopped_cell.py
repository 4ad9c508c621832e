"""A cell of the suite ``mil`` that is told to stop while it trains keeps its state, and goes on from there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks.bench_folder import state_of
from entroreg.benchmarks.cells import Cell, read_result
from entroreg.benchmarks.runner import CellOutcome, run_cells
from entroreg.benchmarks.suites import mil
from entroreg.checkpoint import load_checkpoint
from entroreg.vision.mil.fitting import Fitter

CELL = Cell("mil", "smoke", "drawn", "abmil+aem", 0)


class Inline(Executor):
    """Runs each call at once, in this process's main thread, which alone hears signals."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _run(out: Path) -> CellOutcome:
    (outcome,) = run_cells([CELL], mil.run, out, executor=Inline())
    return outcome


def _without_times(folder: Path) -> dict[str, Any]:
    return {name: value for name, value in read_result(folder).items() if "seconds" not in name}


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("epochs", [1, 3])  # in the first fold, and in the second one
def test_a_cell_told_to_stop_goes_on_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    whole = _run(tmp_path / "whole")
    assert whole.error is None
    begun = []
    run_epoch = Fitter.run_epoch

    def told_to_stop(fitter: Fitter, *arguments: Any) -> Any:
        begun.append(1)
        if len(begun) == epochs:
            os.kill(os.getpid(), signal.SIGTERM)
        return run_epoch(fitter, *arguments)

    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "run_epoch", told_to_stop)
        stopped = _run(tmp_path / "runs")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert len(begun) == epochs
    assert stopped.status == "failed"
    assert stopped.error == "stopped, its state is kept: run again to go on with it"
    assert state_of(stopped.folder) == "stopped"
    assert not (stopped.folder / "failed.json").exists()
    assert "Traceback" not in (stopped.folder / "stderr.log").read_text()
    load_checkpoint(stopped.folder / "run" / "checkpoints" / "last")

    trained = []

    def counted(fitter: Fitter, *arguments: Any) -> Any:
        trained.append(1)
        return run_epoch(fitter, *arguments)

    monkeypatch.setattr(Fitter, "run_epoch", counted)
    again = _run(tmp_path / "runs")
    assert (again.status, again.error) == ("done", None)
    assert len(trained) == 2 * 2 - (epochs - 1)  # epochs that were done are not trained again
    assert _without_times(again.folder) == _without_times(whole.folder)
    assert _rows(again.folder) == _rows(whole.folder)
