"""What is said where an environment cannot be saved, or a saved state does not fit."""

from __future__ import annotations

from typing import Any

from entroreg.envs.saving.classes import name_of


class CannotSaveError(ValueError):
    """An environment holds something whose state cannot be seen."""


class WithinEpisodeError(CannotSaveError):
    """An environment that is saved between episodes is in the middle of one."""


def unseen(path: str, expected: str, got: str) -> CannotSaveError:
    """Return the error for something whose state cannot be seen, with what can be done."""
    return CannotSaveError(
        f"{path} must be {expected}, got {got}: put SeededEpisodes around the environment, which is then saved "
        "between episodes"
    )


def of_another_kind(path: str, expected: str, live: Any) -> ValueError:
    """Return the error for an environment that is not one like the saved one."""
    got = "nothing" if live is None else name_of(live)
    return ValueError(
        f"{path} must be {expected}, as when it was saved, got {got}: make the environment as it was made then"
    )


def malformed(path: str, expected: str, got: Any) -> ValueError:
    """Return the error for a state that no environment was saved as."""
    return ValueError(f"the saved state of {path} must be {expected}, got {got}: the checkpoint is damaged")
