"""What the verbs that train share: a stop by signal, the last good checkpoint, notes on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entroreg.benchmarks.errors import MISSING, RUN_FAILED, UserError, as_line

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
            with checkpoint_errors_as_user_errors(), naming_checkpoints([checkpoint]):
                result = train(stop)
        except OSError as error:  # what the folder was made for, it held before
            raise UserError(f"the run failed: {error}", RUN_FAILED) from error
        if result is None:
            note(f"stopped; the checkpoint is in {checkpoint}" if checkpoint.exists() else "stopped in the warm-up")
        return result, stop.exit_code


@contextmanager
def warnings_as_lines(ending: Callable[[type[Warning]], str] = lambda _: "") -> Iterator[None]:
    """Show every warning inside the block as one line on stderr.

    Args:
        ending: what is added to a warning of a category.
    """

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        note(f"warning: {as_line(f'{message}{ending(category)}')}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def naming_checkpoints(checkpoints: Sequence[Path]) -> Iterator[None]:
    """Name the last good checkpoints with whatever ends or endangers the training inside the block.

    Args:
        checkpoints: folders, which need not be there yet.
    """
    from entroreg.guards import EntropyWarning

    def kept() -> str:
        there = [str(folder) for folder in checkpoints if folder.exists()]
        if not there:
            return "no checkpoint was due yet"
        return f"last good checkpoint{'s' if len(there) > 1 else ''}: {', '.join(there)}"

    with warnings_as_lines(lambda category: f"; {kept()}" if issubclass(category, EntropyWarning) else ""):
        try:
            yield
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; {kept()}") from error


@contextmanager
def checkpoint_errors_as_user_errors() -> Iterator[None]:
    """Turn the errors about a checkpoint that is there into errors that the command shows in one line."""
    from entroreg.checkpoint import CheckpointError, UnfitCheckpointError

    try:
        yield
    except (CheckpointError, UnfitCheckpointError) as error:
        raise UserError(str(error), MISSING) from error


def note(text: str) -> None:
    """Print a line on stderr, where results do not go."""
    print(text, file=sys.stderr, flush=True)


def print_table(rows: dict[str, str]) -> None:
    """Print names and what they stand for, in two columns."""
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}")
