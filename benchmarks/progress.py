"""Progress of a run on stderr: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress(Protocol):
    """Where a run shows how far it is."""

    def advance(self, step: int, recent: Sequence[Mapping[str, float]]) -> None:
        """Show that ``step`` steps are done, and what the rows of the last episodes say."""

    def note(self, text: str) -> None:
        """Show a line that stays."""


@contextmanager
def show_progress(title: str, total: int) -> Iterator[Progress]:
    """Show a run's progress inside the block.

    Args:
        title: in front of the bar.
        total: number of steps.

    Yields:
        The bar, or plain lines where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield _Lines(title, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar, bar.add_task(title, total=total, state=""))


class _Bar:
    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, step: int, recent: Sequence[Mapping[str, float]]) -> None:
        self._bar.update(self._task, completed=step, state=_state(recent))

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)


class _Lines:
    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._tenths = 0

    def advance(self, step: int, recent: Sequence[Mapping[str, float]]) -> None:
        tenths = 10 * step // self._total
        if tenths > self._tenths:
            self._tenths = tenths
            print(f"{self._title}  {step}/{self._total}  {_state(recent)}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        print(f"{self._title}  {text}", file=sys.stderr, flush=True)


def _state(recent: Sequence[Mapping[str, float]]) -> str:
    """Return the mean return of the last episodes, and the entropy (nats) and alpha of the last one."""
    if not recent:
        return ""
    parts = [f"return {sum(row['return'] for row in recent) / len(recent):.1f}"]
    parts += [f"{name} {recent[-1][name]:.3g}" for name in ("entropy", "alpha") if name in recent[-1]]
    return "  ".join(parts)
