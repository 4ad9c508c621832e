"""Run cells on any executor: what is done is skipped, what fails is kept, and nothing stops the others."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import multiprocessing
import os
import platform
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from entroreg.atomic import write_json
from entroreg.benchmarks.cells import RESULT, Cell, is_done
from entroreg.benchmarks.provenance import collect

__all__ = ["CellOutcome", "local_executor", "run_cells"]

RunCell = Callable[[Cell, Path], None]
_CONFIG, _META, _LOG = "config.json", "meta.json", "stderr.log"


@dataclass(frozen=True)
class CellOutcome:
    """What became of one cell."""

    cell: Cell
    """The cell."""
    folder: Path
    """Its folder."""
    status: Literal["done", "skipped", "failed"]
    """``done`` now, ``skipped`` because it was done before, or ``failed``."""
    error: str | None = None
    """Of a failed cell, what went wrong; the traceback is in ``stderr.log`` in its folder."""


@dataclass(frozen=True)
class _Launch:
    """What a worker must know of the process that launched it."""

    command: tuple[str, ...]
    process: tuple[str, int]
    token: Path


def local_executor(jobs: int) -> ProcessPoolExecutor:
    """An executor of ``jobs`` processes on this machine, with a fresh process for each cell.

    Args:
        jobs: how many cells run at once, from 1.

    Raises:
        ValueError: ``jobs`` is less than 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}: 1 runs one cell after the other")
    # spawn: a forked child inherits locks that torch's and MuJoCo's threads hold.
    return ProcessPoolExecutor(
        max_workers=jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    )


def run_cells(
    cells: Sequence[Cell],
    run: RunCell,
    root: Path,
    *,
    executor: Executor,
    on_finished: Callable[[CellOutcome], None] | None = None,
) -> list[CellOutcome]:
    """Run the cells that are not done; running again after a crash or Ctrl-C goes on with the rest.

    Each cell's folder gets ``config.json`` (the cell), ``meta.json`` (`collect`), ``stderr.log`` and what ``run``
    writes. On KeyboardInterrupt no further cell begins, and finished ones stay.

    Args:
        cells: distinct cells.
        run: called as ``run(cell, folder)``; it writes the result as its last act. A module's function, so that it
            can be pickled, if the executor starts processes.
        root: the folder of all runs, which every worker sees.
        executor: where the cells run, such as `local_executor`.
        on_finished: called in this process with each outcome as it comes.

    Returns:
        The outcomes, in the order of the cells.

    Raises:
        ValueError: two cells have one folder, or a cell's folder holds another cell (such as another preset's).
    """
    folders = _folders(cells, root)
    finished = {cell: _is_finished(cell, folder) for cell, folder in folders.items()}
    notify = on_finished or (lambda _: None)
    outcomes = {cell: CellOutcome(cell, folders[cell], "skipped") for cell in cells if finished[cell]}
    for outcome in outcomes.values():
        notify(outcome)
    futures: dict[Future[str | None], Cell] = {}
    with _launch(root) as launch:
        try:
            for cell in cells:
                if not finished[cell]:
                    futures[_submit(executor, run, cell, folders[cell], launch)] = cell
            for future in as_completed(futures):
                cell = futures[future]
                outcomes[cell] = _outcome(cell, folders[cell], future)
                notify(outcomes[cell])
        finally:
            for future in futures:
                future.cancel()
    return [outcomes[cell] for cell in cells]


def _folders(cells: Sequence[Cell], root: Path) -> dict[Cell, Path]:
    owners: dict[Path, Cell] = {}
    for cell in cells:
        folder = cell.folder(root)
        if folder in owners:
            raise ValueError(f"cells must have folders of their own, got {cell} and {owners[folder]}: drop one")
        owners[folder] = cell
    return {cell: folder for folder, cell in owners.items()}


def _is_finished(cell: Cell, folder: Path) -> bool:
    path, expected = folder / _CONFIG, asdict(cell)
    if path.exists() or is_done(folder):
        try:
            found = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError) as error:
            found = error
        if found != expected:
            raise ValueError(f"{path} must hold {expected}, got {found}: choose another --out folder")
    return is_done(folder)


@contextlib.contextmanager
def _launch(root: Path) -> Iterator[_Launch]:
    """The launch of some cells; once its token is gone, no further one begins.

    A process pool hands cells to its workers ahead of time, and those can no longer be cancelled.
    """
    token = root.absolute() / f".running-{uuid.uuid4().hex}"
    root.mkdir(parents=True, exist_ok=True)
    token.touch()
    try:
        yield _Launch(tuple(sys.argv), _process(), token)
    finally:
        token.unlink(missing_ok=True)


def _submit(executor: Executor, run: RunCell, cell: Cell, folder: Path, launch: _Launch) -> Future[str | None]:
    try:
        return executor.submit(_work, run, cell, folder.absolute(), launch)
    except BrokenExecutor as error:  # a worker died while cells were still being submitted
        future: Future[str | None] = Future()
        future.set_exception(error)
        return future


def _outcome(cell: Cell, folder: Path, future: Future[str | None]) -> CellOutcome:
    error = future.exception()
    if error is None:
        text = future.result()
    elif isinstance(error, BrokenExecutor):
        # All unfinished cells of the pool end so, whichever's worker died; one may have written its result first.
        text = None if is_done(folder) else f"a worker process died ({error}): run again to retry what is not done"
    elif isinstance(error, Exception):
        text = _summary(error)
    else:
        raise error  # KeyboardInterrupt reached the worker
    return CellOutcome(cell, folder, "done" if text is None else "failed", text)


def _work(run: RunCell, cell: Cell, folder: Path, launch: _Launch) -> str | None:
    """Run a cell in the worker; None if it is done, else what went wrong."""
    if not launch.token.exists():
        return "interrupted before it began: run again"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _CONFIG, asdict(cell))
    write_json(folder / _META, collect(launch.command))
    # A worker that is a thread of the launching process shares its stderr with all, so there only tracebacks go.
    with _open_log(folder) as log, _stderr_to(log, when=launch.process != _process()):
        try:
            run(cell, folder)
        except (Exception, SystemExit) as error:  # whatever a cell raises must not stop the others
            traceback.print_exc(file=log)
            if is_done(folder):  # a cell that failed after all must not be skipped as done next time
                os.replace(folder / RESULT, folder / f"{RESULT}.failed")
            return _summary(error)
    return None if is_done(folder) else f"run returned without {RESULT}: it must call write_result"


def _open_log(folder: Path) -> IO[str]:
    return (folder / _LOG).open("a", encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _stderr_to(log: IO[str], *, when: bool) -> Iterator[None]:
    """Send this process's stderr to a file, also what C code, child processes and a crash write to it."""
    if not when:
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(log.fileno(), 2)
    faulthandler.enable(2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


def _process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _summary(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()
