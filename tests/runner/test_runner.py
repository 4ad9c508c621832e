from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from entroreg.benchmarks.cells import Cell, is_done, read_result, write_result
from entroreg.benchmarks.local_processes import local_executor
from entroreg.benchmarks.runner import CellOutcome, run_cells

CELL = Cell("toy", "smoke", "a/b", "good", 0)
CELLS = [replace(CELL, seed=seed) for seed in range(4)]
COMMAND = [Path(sys.argv[0]).name, *sys.argv[1:]]
_UNLIKE_ANY = "a worker died while this was being submitted"


class InlineExecutor(Executor):
    """Runs each call at once, here."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def _write(cell: Cell, folder: Path) -> None:
    write_result(folder, {"seed": cell.seed})


def _fail_on_odd_seeds(cell: Cell, folder: Path) -> None:
    if cell.seed % 2:
        raise ZeroDivisionError(f"odd seed {cell.seed}")
    _write(cell, folder)


def _run(cells: list[Cell], run: Any, root: Path, **options: Any) -> list[CellOutcome]:
    return run_cells(cells, run, root, executor=options.pop("executor", InlineExecutor()), **options)


def _statuses(outcomes: list[CellOutcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def _files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(params=["inline", "threads"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with InlineExecutor() if request.param == "inline" else ThreadPoolExecutor(3) as started:
        yield started


def test_each_cell_runs_once_in_its_folder(tmp_path: Path, executor: Executor) -> None:
    outcomes = _run(CELLS, _write, tmp_path / "made" / "runs", executor=executor)
    assert [outcome.cell for outcome in outcomes] == CELLS
    assert _statuses(outcomes) == ["done"] * 4
    for cell, outcome in zip(CELLS, outcomes, strict=True):
        assert outcome == CellOutcome(cell, cell.folder(tmp_path / "made" / "runs"), "done", None)
        assert read_result(outcome.folder) == {"seed": cell.seed}
        names = {"config.json", "meta.json", "stderr.log", "result.json", ".lock"}
        assert {path.name for path in outcome.folder.iterdir()} == names
        assert json.loads((outcome.folder / "config.json").read_bytes()) == asdict(cell)
    assert len(_files(tmp_path)) == 20  # and nothing else, such as the token of the launch


def test_config_and_meta_are_there_before_the_run(tmp_path: Path) -> None:
    def run(cell: Cell, folder: Path) -> None:
        assert json.loads((folder / "config.json").read_bytes()) == asdict(cell)
        meta = json.loads((folder / "meta.json").read_bytes())
        assert meta["command"] == COMMAND
        assert meta["packages"]["torch"] == torch.__version__
        _write(cell, folder)

    assert _statuses(_run(CELLS, run, tmp_path)) == ["done"] * 4


def test_a_relative_root_is_where_it_was_when_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(cell: Cell, folder: Path) -> None:
        assert folder.is_absolute()
        monkeypatch.chdir("/")
        _write(cell, folder)
        monkeypatch.chdir(tmp_path)

    assert _statuses(_run(CELLS, run, Path("runs"))) == ["done"] * 4


def test_what_is_done_is_skipped_and_the_rest_resumes(tmp_path: Path) -> None:
    _run(CELLS[:2], _write, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ran: list[int] = []

    def run(cell: Cell, folder: Path) -> None:
        ran.append(cell.seed)
        _write(cell, folder)

    assert _statuses(_run(CELLS, run, tmp_path)) == ["skipped", "skipped", "done", "done"]
    assert ran == [2, 3]
    assert {path: path.read_bytes() for path in before} == before
    assert _statuses(_run(CELLS, run, tmp_path)) == ["skipped"] * 4


def test_a_failure_stops_no_other_and_is_retried(tmp_path: Path, executor: Executor) -> None:
    outcomes = _run(CELLS, _fail_on_odd_seeds, tmp_path, executor=executor)
    assert _statuses(outcomes) == ["done", "failed", "done", "failed"]
    assert outcomes[1].error == "ZeroDivisionError: odd seed 1"
    log = (outcomes[1].folder / "stderr.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "_fail_on_odd_seeds" in log
    assert log.endswith("ZeroDivisionError: odd seed 1\n")
    assert json.loads((outcomes[1].folder / "failed.json").read_bytes()) == {"error": outcomes[1].error}
    assert (outcomes[0].folder / "stderr.log").read_text() == ""
    assert _statuses(_run(CELLS, _write, tmp_path)) == ["skipped", "done", "skipped", "done"]
    assert (outcomes[1].folder / "stderr.log").read_text() == log


def test_a_worker_in_this_process_leaves_its_stderr_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(cell: Cell, folder: Path) -> None:
        os.write(2, b"a line of C")
        _write(cell, folder)

    (outcome,) = _run([CELL], run, tmp_path)
    assert capfd.readouterr().err == "a line of C"
    assert (outcome.folder / "stderr.log").read_text() == ""


def test_exit_in_a_cell_is_a_failure(tmp_path: Path) -> None:
    outcomes = _run(CELLS, lambda cell, folder: sys.exit(0), tmp_path)
    assert _statuses(outcomes) == ["failed"] * 4
    assert outcomes[0].error == "SystemExit: 0"


def test_a_cell_without_result_failed(tmp_path: Path) -> None:
    (outcome,) = _run([CELL], lambda cell, folder: None, tmp_path)
    assert outcome.status == "failed"
    assert outcome.error == "run returned without result.json: it must call write_result"


def test_a_cell_that_fails_after_its_result_is_not_done(tmp_path: Path) -> None:
    def run(cell: Cell, folder: Path) -> None:
        _write(cell, folder)
        raise RuntimeError("late")

    (outcome,) = _run([CELL], run, tmp_path)
    assert (outcome.status, outcome.error) == ("failed", "RuntimeError: late")
    assert not is_done(outcome.folder)
    assert json.loads((outcome.folder / "result.json.failed").read_bytes()) == {"seed": 0}


def test_a_folder_that_cannot_be_made_fails_its_cell_only(tmp_path: Path) -> None:
    blocked = replace(CELL, method="blocked")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "blocked").touch()
    outcomes = _run([blocked, CELL], _write, tmp_path)
    assert _statuses(outcomes) == ["failed", "done"]
    assert "Not a directory" in (outcomes[0].error or "")


def test_outcomes_are_told_as_they_come(tmp_path: Path) -> None:
    _run(CELLS[:1], _write, tmp_path)
    told: list[CellOutcome] = []
    outcomes = _run(CELLS, _fail_on_odd_seeds, tmp_path, on_finished=told.append)
    assert told[0].status == "skipped"
    assert sorted(told, key=lambda outcome: outcome.cell.seed) == outcomes


def test_no_cells_are_no_outcomes(tmp_path: Path) -> None:
    assert _run([], _write, tmp_path) == []


# --- folders that hold something else


@pytest.mark.parametrize("run", [_write, lambda cell, folder: None])
def test_another_preset_in_the_folder_is_not_taken_for_this_one(tmp_path: Path, run: Any) -> None:
    _run(CELLS, run, tmp_path)
    before = _files(tmp_path)
    with pytest.raises(ValueError, match=r"must hold .*'paper'.*, got .*'smoke'.*: choose another --out folder"):
        _run([replace(CELL, seed=9, preset="paper"), replace(CELL, preset="paper")], _write, tmp_path)
    assert _files(tmp_path) == before


@pytest.mark.parametrize("config", [None, "{", "[]"])
def test_a_result_of_unknown_origin_is_not_taken_for_this_one(tmp_path: Path, config: str | None) -> None:
    folder = CELL.folder(tmp_path)
    folder.mkdir(parents=True)
    write_result(folder, {"seed": 7})
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"config\.json must hold .*: choose another --out folder"):
        _run([CELL], _write, tmp_path)


@pytest.mark.parametrize("other", [CELL, replace(CELL), replace(CELL, preset="paper")])
def test_two_cells_never_share_a_folder(tmp_path: Path, other: Cell) -> None:
    with pytest.raises(ValueError, match=r"cells must have folders of their own, got .*: drop one"):
        _run([CELL, other], _write, tmp_path)
    assert _files(tmp_path) == set()


# --- interruption


def test_ctrl_c_here_cancels_what_waits_and_keeps_what_is_done(tmp_path: Path) -> None:
    def interrupt(_: CellOutcome) -> None:
        raise KeyboardInterrupt

    def run(cell: Cell, folder: Path) -> None:
        time.sleep(0.05)
        _write(cell, folder)

    with ThreadPoolExecutor(1) as threads, pytest.raises(KeyboardInterrupt):
        _run(CELLS, run, tmp_path, executor=threads, on_finished=interrupt)
    done = [is_done(cell.folder(tmp_path)) for cell in CELLS]
    assert done[0]
    assert not done[3]
    statuses = _statuses(_run(CELLS, _write, tmp_path))
    assert statuses == ["skipped" if was_done else "done" for was_done in done]


def test_ctrl_c_in_a_worker_propagates(tmp_path: Path) -> None:
    def run(cell: Cell, folder: Path) -> None:
        if cell.seed == 1:
            raise KeyboardInterrupt
        _write(cell, folder)

    waiting: list[Future[Any]] = []

    class LaterWaiting(InlineExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            waiting.append(super().submit(fn, *args, **kwargs) if args[1].seed < 2 else Future())
            return waiting[-1]

    with pytest.raises(KeyboardInterrupt):
        _run(CELLS, run, tmp_path, executor=LaterWaiting())
    assert [future.cancelled() for future in waiting] == [False, False, True, True]
    assert is_done(CELLS[0].folder(tmp_path))
    assert not list(tmp_path.glob(".*"))


def test_a_pool_that_breaks_while_submitting_fails_the_rest(tmp_path: Path) -> None:
    class Breaking(InlineExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if args[1].seed >= 2:
                raise BrokenProcessPool(_UNLIKE_ANY)
            return super().submit(fn, *args, **kwargs)

    outcomes = _run(CELLS, _write, tmp_path, executor=Breaking())
    assert _statuses(outcomes) == ["done", "done", "failed", "failed"]
    assert outcomes[3].error == f"a worker process died ({_UNLIKE_ANY}): run again to retry what is not done"


def test_a_cell_that_is_tried_again_after_its_end_is_not_run_twice(tmp_path: Path) -> None:
    class TryingAgain(InlineExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            super().submit(fn, *args, **kwargs)  # as of a cluster that lost the answer
            return super().submit(fn, *args, **kwargs)

    ran: list[int] = []

    def run(cell: Cell, folder: Path) -> None:
        ran.append(cell.seed)
        _write(cell, folder)

    assert _statuses(_run(CELLS, run, tmp_path, executor=TryingAgain())) == ["done"] * 4
    assert ran == [0, 1, 2, 3]


def test_a_result_written_before_its_worker_died_counts(tmp_path: Path) -> None:
    class Dying(InlineExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            super().submit(fn, *args, **kwargs)
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("died"))
            return future

    assert _statuses(_run(CELLS, _write, tmp_path, executor=Dying())) == ["done"] * 4


# --- processes

_HELPERS = """
import os
import subprocess
import sys
import time

from entroreg.benchmarks.cells import write_result


def run(cell, folder):
    print("a line of Python", file=sys.stderr)
    os.write(2, b"a line of C\\n")
    subprocess.run([sys.executable, "-S", "-c", "import sys; sys.stderr.write('a line of a child')"], check=True)
    if cell.seed == 1:
        raise LookupError("seed one")
    write_result(folder, {"pid": os.getpid()})


def die(cell, folder):
    if cell.seed == 0:
        os.abort()
    write_result(folder, {})


def nap(cell, folder):
    time.sleep(0.2)
    write_result(folder, {})
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Functions that a spawned process can import; it is given this process's path."""
    (tmp_path / "cell_helpers.py").write_text(_HELPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cell_helpers", raising=False)
    import cell_helpers  # type: ignore[import-not-found]

    return cell_helpers  # type: ignore[no-any-return]


def test_processes_keep_their_stderr_in_the_cell(
    tmp_path: Path, helpers: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    with local_executor(2) as processes:
        outcomes = _run(CELLS[:3], helpers.run, tmp_path / "runs", executor=processes)
    assert _statuses(outcomes) == ["done", "failed", "done"]
    assert outcomes[1].error == "LookupError: seed one"
    for outcome in outcomes:
        log = (outcome.folder / "stderr.log").read_text()
        assert log.startswith("a line of Python\na line of C\na line of a child")
        assert ("LookupError: seed one" in log) == (outcome.cell.seed == 1)
    assert "a line" not in capfd.readouterr().err
    pids = {read_result(outcome.folder)["pid"] for outcome in outcomes if outcome.status == "done"}
    assert len(pids | {os.getpid()}) == 3  # a fresh process for each cell
    assert json.loads((outcomes[0].folder / "meta.json").read_bytes())["command"] == COMMAND


def test_a_dead_worker_fails_its_own_cell_only(tmp_path: Path, helpers: ModuleType) -> None:
    with local_executor(2) as processes:
        outcomes = _run(CELLS, helpers.die, tmp_path / "runs", executor=processes)
    assert _statuses(outcomes) == ["failed", "done", "done", "done"]
    error = "a worker process died (killed by SIGABRT): run again to retry what is not done"
    assert outcomes[0].error == error
    assert json.loads((outcomes[0].folder / "failed.json").read_bytes()) == {"error": error}
    assert "Fatal Python error: Aborted" in (outcomes[0].folder / "stderr.log").read_text()
    assert _statuses(_run(CELLS, _write, tmp_path / "runs")) == ["done", "skipped", "skipped", "skipped"]
    assert not (outcomes[0].folder / "failed.json").exists()


def test_after_ctrl_c_no_further_cell_begins(tmp_path: Path, helpers: ModuleType) -> None:
    def interrupt(_: CellOutcome) -> None:
        raise KeyboardInterrupt

    with local_executor(1) as processes, pytest.raises(KeyboardInterrupt):
        _run(CELLS, helpers.nap, tmp_path / "runs", executor=processes, on_finished=interrupt)
    begun = [cell.folder(tmp_path / "runs").exists() for cell in CELLS]
    assert begun == [True, False, False, False]


def test_the_number_of_jobs_is_checked() -> None:
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0: 1 runs one cell after the other"):
        local_executor(0)
