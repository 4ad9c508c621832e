"""What every controller offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Controller(Protocol):
    """Owner of an entropy coefficient: a non-negative scalar that never stands in the task's graph."""

    @property
    def value(self) -> Tensor:
        """The coefficient, scalar float32, detached."""

    def update(self, entropy: Tensor) -> dict[str, Tensor]:
        """Take one step from measured entropies and return detached scalar metrics."""

    def to(self, device: torch.device | str) -> Controller:
        """Move the state to a device, in place, and return the controller."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that ``load_state_dict`` needs to continue exactly."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; unknown or missing keys raise ValueError."""
