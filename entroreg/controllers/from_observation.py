"""A coefficient that each observation brings along: that of QARL's adversary, drawn by a curriculum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks


class FromObservation:
    """A coefficient for each sample, read from one component of its observation.

    Args:
        index: of the component; -1 for the last.

    Raises:
        TypeError: index not an integer.

    Example:
        >>> FromObservation(-1).values(torch.tensor([[1.0, 0.05], [2.0, 0.01]]))
        tensor([0.0500, 0.0100])

    Reference:
        Reddi et al. (2024), arXiv 2311.01642, section 4.
    """

    def __init__(self, index: int = -1) -> None:
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"index must be an int, got {type(index).__name__}")
        self.index = index

    def values(self, observations: Tensor) -> Tensor:
        """Return the coefficients, detached.

        Args:
            observations: (..., D) floating, with values of at least 0 at the index.

        Returns:
            (...).

        Raises:
            TypeError: observations not a floating tensor.
            ValueError: the index lies outside them.
        """
        _checks.require_floating("observations", observations)
        size = observations.shape[-1]
        if not -size <= self.index < size:
            raise ValueError(f"observations must have a component {self.index}, got the size {size}")
        return observations.detach()[..., self.index]

    def update(self, entropy: Tensor, observations: Tensor) -> dict[str, Tensor]:
        """Return the metrics; nothing is learned."""
        return {"alpha": self.values(observations).mean(), "entropy": entropy.detach().mean()}

    def to(self, device: torch.device | str) -> FromObservation:
        """Return itself: it holds no tensor."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: it has no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""
        _checks.require_keys("state of FromObservation", state, ())
