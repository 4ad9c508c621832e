"""SIGTERM and SIGINT as a flag that a loop reads at its next safe point."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from entroreg.benchmarks.errors import INTERRUPTED, OK, STOPPED

_EXIT_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: STOPPED}


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C: no further work begins, and what is done stays."""


class StoppedError(Exception):
    """A cell was asked to stop and has written down where it is: it is neither done nor has it failed."""


class StopFlag:
    """Whether a stop was asked for, and by which signal."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Return True once a stop was asked for."""
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """The process's exit code: 0, 75 after SIGTERM, 130 after SIGINT."""
        return OK if self._signal is None else _EXIT_CODES[self._signal]

    def set(self, number: int, _frame: FrameType | None = None) -> None:
        """Note a signal; a second SIGINT interrupts at once, for a user who will not wait."""
        if self._signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Set a flag on SIGTERM and SIGINT inside the block; the old handlers come back after it.

    Yields:
        The flag. Outside the main thread, where no handler can be set, it stays False.
    """
    flag = StopFlag()
    try:
        previous = {number: signal.signal(number, flag.set) for number in _EXIT_CODES}
    except ValueError:  # not the main thread: the caller's handlers stay in charge
        yield flag
        return
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def terminate_as_exception() -> Iterator[None]:
    """Raise Terminated on SIGTERM inside the block, for code that has no safe point to read a flag at."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
