"""A fresh process of this machine for each call, with its share of threads and GPUs; none outlives its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from entroreg.benchmarks.executors import GRACE_SECONDS, WaitingExecutor, WorkerDiedError
from entroreg.benchmarks.provenance import cores

__all__ = ["LocalProcesses", "local_executor"]

# spawn: a forked child inherits locks that torch's and MuJoCo's threads hold.
_CONTEXT = multiprocessing.get_context("spawn")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GPUS = "CUDA_VISIBLE_DEVICES"
_LOOK_SECONDS = 0.2


def local_executor(jobs: int, threads: int | None = None) -> WaitingExecutor:
    """An executor of ``jobs`` processes on this machine, with a fresh process for each call.

    Args:
        jobs: how many run at once, from 1.
        threads: CPU threads of each; an equal share of the cores if None.

    Raises:
        ValueError: ``jobs`` is less than 1.
    """
    if threads is None:  # what the user has set stays
        share = {name: str(max(1, cores() // max(1, jobs))) for name in _THREADS if name not in os.environ}
    else:
        share = dict.fromkeys(_THREADS, str(threads))
    return WaitingExecutor(LocalProcesses(environments(jobs, share, visible_gpus())), jobs)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(_GPUS)
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu]
    if not Path("/dev/nvidiactl").exists():  # and torch need not be loaded to be asked
        return []
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def environments(jobs: int, share: dict[str, str], gpus: list[str]) -> list[dict[str, str]]:
    """Return what each of some processes that run at once finds in its environment.

    GPUs are dealt out in turn: more processes than GPUs share them, and with fewer a process has several.

    Args:
        jobs: processes at once.
        share: variables of each.
        gpus: to share out.
    """
    if not gpus:
        return [share] * jobs
    dealt = [gpus[job::jobs] or [gpus[job % len(gpus)]] for job in range(jobs)]
    return [{**share, _GPUS: ",".join(of_job)} for of_job in dealt]


class LocalProcesses:
    """The backend; see `local_executor`.

    Args:
        environments: variables of each process that runs at once.
    """

    def __init__(self, environments: list[dict[str, str]]) -> None:
        self._free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for environment in environments:
            self._free.put(environment)
        self._starting = threading.Lock()
        self._running: set[BaseProcess] = set()
        self._stopping = False

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a call in a process of its own."""
        environment = self._free.get()
        try:
            process, answers = self._start(environment, function, arguments)
            try:
                failed, answer = _answer(process, answers)
            finally:
                _end(process)
                self._running.discard(process)
            if failed:
                raise answer
            return answer
        finally:
            self._free.put(environment)

    def stop(self) -> None:
        """Send SIGTERM to all, and SIGKILL to those that still run after a while."""
        with self._starting:
            self._stopping = True
        running = list(self._running)
        try:
            for process in running:
                process.terminate()
            deadline = time.monotonic() + GRACE_SECONDS
            while any(process.exitcode is None for process in running) and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS / 10)
        finally:  # also at a second Ctrl-C
            for process in running:
                process.kill()

    def close(self) -> None:
        """Hold nothing."""

    def _start(
        self, environment: Mapping[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> tuple[BaseProcess, Connection]:
        with self._starting:
            if self._stopping:
                raise WorkerDiedError("stopped before it began")
            answers, writer = _CONTEXT.Pipe(duplex=False)
            process = _CONTEXT.Process(target=_work, args=(writer, function, arguments))
            with _environment(environment):  # before its imports: libraries read these once
                process.start()
            writer.close()
            self._running.add(process)
            return process, answers


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _answer(process: BaseProcess, answers: Connection) -> tuple[bool, Any]:
    """Return what a process answers: whether it failed, and the value or the error."""
    # Its end is looked for as well: children that it forked keep its pipes open.
    while not answers.poll(_LOOK_SECONDS):
        if process.exitcode is not None and not answers.poll():
            raise WorkerDiedError(_how(process.exitcode))
    try:
        answer: tuple[bool, Any] = answers.recv()
    except EOFError:
        process.join()
        raise WorkerDiedError(_how(process.exitcode)) from None
    return answer


def _end(process: BaseProcess) -> None:
    """Wait for a process, and end the children that it left: they hold its lock."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
        if process.pid is not None and process.exitcode is None:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # unreaped, so that its number stays its own
        if process.pid is not None:
            os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _work(writer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setpgrp()  # so that what it forks can be ended with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        answer = (False, function(*arguments))
    except BaseException as error:  # whatever it is, the parent raises it
        answer = (True, error)
    writer.send(answer)


def _die_with_parent() -> None:
    """End this process when its parent dies: a new launch would run the same cell beside it."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a child
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"exit code {exit_code}"
