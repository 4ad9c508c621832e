"""What the verbs that train share: a stop by signal, the last good checkpoint, notes on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entroreg.benchmarks.signals import StopFlag


def result_of(
    train: Callable[[StopFlag], dict[str, Any] | None], folder: Path
) -> tuple[dict[str, Any] | None, int]:
    """Return the result of a training, None if it was stopped, and the exit code."""
    from entroreg.benchmarks.run_folder import CHECKPOINT
    from entroreg.benchmarks.signals import stop_on_signals

    checkpoint = folder / CHECKPOINT
    with stop_on_signals() as stop:
        try:
            result = train(stop)
        except FloatingPointError as error:
            kept = f"last good checkpoint: {checkpoint}" if checkpoint.exists() else "no checkpoint was due yet"
            raise FloatingPointError(f"{error}; {kept}") from error
        if result is None:
            note(f"stopped; the checkpoint is in {checkpoint}" if checkpoint.exists() else "stopped in the warm-up")
        return result, stop.exit_code


def note(text: str) -> None:
    """Print a line on stderr, where results do not go."""
    print(text, file=sys.stderr, flush=True)


def print_table(rows: dict[str, str]) -> None:
    """Print names and what they stand for, in two columns."""
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}")
