"""Where cells run: processes of this machine, a Ray cluster or Slurm, each as a ``concurrent.futures.Executor``.

All three wait for a call in a thread of this process, so they differ in one function only: run this call, return
what it returned, raise what it raised. Leaving the ``with`` block by an exception stops the calls that run.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, TypeVar

__all__ = ["GRACE_SECONDS", "Backend", "WaitingExecutor", "WorkerDiedError"]

GRACE_SECONDS = 30.0
"""What a cell has, once it is told to stop, to write its checkpoint; Slurm gives as much by default."""

Returned = TypeVar("Returned")


class WorkerDiedError(RuntimeError):
    """The process of a call ended without an answer; only its own call is lost."""


class Backend(Protocol):
    """A place where calls run."""

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a call elsewhere and wait for it; called from several threads at once.

        Raises:
            WorkerDiedError: its process died.
            Exception: whatever the function raised.
        """

    def stop(self) -> None:
        """Ask every call that runs to stop, wait for ``GRACE_SECONDS``, and end what still runs."""

    def close(self) -> None:
        """Give back what the backend holds; no call runs any more."""


class WaitingExecutor(Executor):
    """A backend as an executor: ``jobs`` calls at once, each waited for by a thread.

    Args:
        backend: where calls run.
        jobs: how many run at once, from 1.

    Raises:
        ValueError: ``jobs`` is less than 1.
    """

    def __init__(self, backend: Backend, jobs: int) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}: 1 runs one cell after the other")
        self._backend = backend
        self._threads = ThreadPoolExecutor(jobs)

    def submit(self, fn: Callable[..., Returned], /, *args: Any, **kwargs: Any) -> Future[Returned]:
        """Have the backend run a call, as soon as fewer than ``jobs`` run."""
        if kwargs:
            raise TypeError(f"calls take positional arguments only, got {', '.join(kwargs)}")
        return self._threads.submit(self._backend.call, fn, args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls; as ``concurrent.futures.Executor.shutdown``."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._backend.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all calls, or stop them where the block ended by an exception."""
        if kind is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._backend.stop()
        self.shutdown()
