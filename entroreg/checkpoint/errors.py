"""What goes wrong with a checkpoint that is there."""

from __future__ import annotations

__all__ = ["CheckpointError"]


class CheckpointError(RuntimeError):
    """A checkpoint is incomplete, damaged or of another version."""
