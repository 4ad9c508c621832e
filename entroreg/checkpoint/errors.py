"""What goes wrong with a checkpoint that is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CheckpointError", "UnfitCheckpointError", "refusing_unfit"]


class CheckpointError(RuntimeError):
    """A checkpoint is incomplete, damaged or of another version."""


class UnfitCheckpointError(ValueError):
    """A checkpoint is sound, but not of what it is loaded into."""


@contextmanager
def refusing_unfit(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Take it that whatever goes wrong inside the block is that a checkpoint's contents are not those expected.

    Args:
        folder: of the checkpoint, which has been loaded.

    Raises:
        UnfitCheckpointError: in place of the other errors that wrong contents lead to.
        CheckpointError: as raised inside the block.
    """
    try:
        yield
    except (CheckpointError, UnfitCheckpointError):
        raise
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        is_told = isinstance(error, RuntimeError | ValueError)
        reason = str(error) if is_told else f"{type(error).__name__}: {error}"
        raise UnfitCheckpointError(
            f"the checkpoint {folder} does not fit what it is loaded into: {reason.partition(chr(10))[0]}"
        ) from error
