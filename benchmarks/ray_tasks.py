"""Calls as tasks of a Ray cluster, one that runs already or one that is started on this machine."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from entroreg.benchmarks.errors import MISSING, UserError
from entroreg.benchmarks.executors import GRACE_SECONDS, WaitingExecutor, WorkerDiedError
from entroreg.benchmarks.provenance import cores

__all__ = ["RayTasks", "ray_executor"]

ANSWER_SECONDS = 5.0
_LOOKED_UP = ("auto", "local")  # words for which Ray finds the address itself
_LAST_PORT = 65_535
RETRIES = 1  # of a call whose worker died; the cell's own lock keeps two of them from running at once


def ray_executor(
    jobs: int, address: str | None = None, *, threads: int | None = None, gpus: float = 0.0
) -> WaitingExecutor:
    """An executor of tasks on Ray, each in a fresh worker process.

    Args:
        jobs: tasks at once, from 1; fewer run where the cluster has no room.
        address: of a cluster that runs, such as ``auto`` or ``ray://host:10001``; started here if None.
        threads: CPU cores that a task takes; an equal share of this machine's if None.
        gpus: that a task takes; a part such as 0.5 shares one.

    Raises:
        ValueError: ``jobs`` is less than 1.
        UserError: Ray is not installed, or no cluster answers at the address.
    """
    share = max(1, cores() // max(1, jobs)) if threads is None else threads
    return WaitingExecutor(RayTasks(address, jobs * share, share, gpus), jobs)


class RayTasks:
    """The backend; see `ray_executor`.

    Args:
        address: of a cluster, None to start one.
        cpus: of the cluster that is started.
        threads: of a task.
        gpus: of a task.
    """

    def __init__(self, address: str | None, cpus: int, threads: int, gpus: float) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise UserError("Ray runs cells past one machine: pip install 'entroreg[cluster]'", MISSING) from error
        self._ray = ray
        if address is not None:
            _require_answer(address)
        self._joined = ray.is_initialized()  # then it is the caller's, and stays
        if not self._joined:
            try:
                ray.init(
                    address=address,
                    num_cpus=None if address else cpus,
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except ConnectionError as error:
                raise _no_cluster(address, error) from error
        # max_calls: a fresh process for each task. Ray gives a task's libraries as many threads as it has CPUs.
        self._task = ray.remote(max_calls=1, max_retries=RETRIES, num_cpus=threads, num_gpus=gpus)(_run)
        self._lock = threading.Lock()
        self._running: set[Any] = set()

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a call as a task."""
        task = self._task.remote(function, arguments)
        with self._lock:
            self._running.add(task)
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise WorkerDiedError(str(error).strip().partition("\n")[0]) from error
        finally:
            with self._lock:
                self._running.discard(task)

    def stop(self) -> None:
        """Interrupt all tasks, and end those that still run after a while."""
        with self._lock:
            running = list(self._running)
        for task in running:
            self._ray.cancel(task, force=False)
        _, left = self._ray.wait(running, num_returns=len(running), timeout=GRACE_SECONDS) if running else ([], [])
        for task in left:
            self._ray.cancel(task, force=True)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if not self._joined:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens: Ray would wait for it without end."""
    if address in _LOOKED_UP:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise UserError(f"address must be auto, HOST:PORT or ray://HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster answers at {address} ({error}): start one by 'ray start --head', or leave out --address"
    )


def _run(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)
