"""Run cells on any executor: what is done is skipped, what fails is written down, and nothing stops the others."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import os
import platform
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from entroreg.atomic import write_json
from entroreg.benchmarks.cells import FAILURE, RESULT, Cell, is_done, write_failure
from entroreg.benchmarks.executors import WorkerDiedError
from entroreg.benchmarks.provenance import collect, collect_again
from entroreg.benchmarks.signals import StoppedError

__all__ = ["TOKEN", "CellOutcome", "is_running", "run_cells"]

RunCell = Callable[[Cell, Path], None]
_CONFIG, _META, _LOG, _LOCK = "config.json", "meta.json", "stderr.log", ".lock"
TOKEN = ".running-"  # and more: while it is there, cells of its launch may begin


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
    """Of a failed cell, what went wrong, also in ``failed.json``; the traceback is in ``stderr.log``."""


@dataclass(frozen=True)
class _Launch:
    """What a worker must know of the process that launched it."""

    meta: dict[str, Any]
    process: tuple[str, int]
    token: Path


def run_cells(
    cells: Sequence[Cell],
    run: RunCell,
    root: Path,
    *,
    executor: Executor,
    on_finished: Callable[[CellOutcome], None] | None = None,
) -> list[CellOutcome]:
    """Run the cells that are not done; running again after a crash or Ctrl-C goes on with the rest.

    Each cell's folder gets ``config.json`` (the cell), ``meta.json`` (`collect`), ``stderr.log``, what ``run``
    writes and, if it failed, ``failed.json``. On KeyboardInterrupt no further cell begins, and finished ones stay.
    A cell runs in one place at a time, also where a launch that was killed left jobs on a cluster behind.

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
    with _launch(root, cells) as launch:
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
def _launch(root: Path, cells: Sequence[Cell]) -> Iterator[_Launch]:
    """The launch of some cells; once its token is gone, no further one begins.

    A process pool hands cells to its workers ahead of time, and those can no longer be cancelled.
    """
    # All cells of a launch are of one suite, whose folder is held by whoever launches.
    folder = cells[0].folder(root.absolute()).parents[2] if cells else root.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / f"{TOKEN}{uuid.uuid4().hex}"
    token.touch()
    try:
        yield _Launch(collect(), _process(), token)
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
    elif isinstance(error, BrokenExecutor | WorkerDiedError):
        # It may have written its result first; otherwise it could not write down itself why it failed.
        text = None if is_done(folder) else f"a worker process died ({error}): run again to retry what is not done"
        if text is not None and (folder / _CONFIG).exists():
            write_failure(folder, text)
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
    with _held(folder):
        # Another worker may have finished it meanwhile: a launch that was killed, a retry of a cluster.
        return None if is_done(folder) else _run_held(run, cell, folder, launch)


def _run_held(run: RunCell, cell: Cell, folder: Path, launch: _Launch) -> str | None:
    (folder / FAILURE).unlink(missing_ok=True)
    write_json(folder / _CONFIG, asdict(cell))
    write_json(folder / _META, _meta(launch))
    # A worker that is a thread of the launching process shares its output with all, so there only tracebacks go.
    with _open_log(folder) as log, _output_to(log, when=launch.process != _process()):
        try:
            run(cell, folder)
            error = None if is_done(folder) else f"run returned without {RESULT}: it must call write_result"
        except StoppedError:
            return "stopped, its state is kept: run again to go on with it"
        except (Exception, SystemExit) as raised:  # whatever a cell raises must not stop the others
            traceback.print_exc(file=log)
            error = _summary(raised)
    if error is not None:
        write_failure(folder, error)
    return error


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a cell's folder; waits while another process does."""
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that runs {folder}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_running(folder: Path) -> bool:
    """Whether some process runs the cell of a folder just now."""
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _meta(launch: _Launch) -> dict[str, Any]:
    if launch.process[0] == platform.node():
        return collect_again(launch.meta)
    return collect(launch.meta["command"], (launch.meta["commit"], launch.meta["dirty"]))


def _open_log(folder: Path) -> IO[str]:
    return (folder / _LOG).open("a", encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _output_to(log: IO[str], *, when: bool) -> Iterator[None]:
    """Send what this process prints to a file, also what C code, child processes and a crash write."""
    if not when:
        yield
        return
    streams = (sys.stdout, sys.stderr)
    saved = [(os.dup(number), number) for number in (1, 2)]
    for stream, (_, number) in zip(streams, saved, strict=True):
        stream.flush()
        os.dup2(log.fileno(), number)
    faulthandler.enable(2)
    try:
        yield
    finally:
        for stream, (kept, number) in zip(streams, saved, strict=True):
            stream.flush()
            os.dup2(kept, number)
            os.close(kept)


def _process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _summary(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()
