"""Weights of several losses that keep them falling at one pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks

__all__ = ["LossBalance"]


class LossBalance:
    r"""Weights that grow for the loss that has fallen least since the first batch.

    $$w_i \leftarrow w_i - r_w \Big(w_i - \frac{\rho_i}{\sum_j \rho_j}\Big), \qquad
      \rho_i = \Big(\frac{L_i}{L_i^{(1)}}\Big)^{\beta}$$

    The weights begin equal and always sum to 1. The first update takes L^(1) and so changes nothing.

    Args:
        losses: how many, from 2.
        rate: r_w in (0, 1]; an attribute, which a schedule may lower.
        beta: exponent, at least 0.

    Raises:
        TypeError: a number of another kind.
        ValueError: a number out of its range.

    Example:
        >>> balance = LossBalance()
        >>> for falling in (1.0, 0.5):
        ...     _ = balance.update([torch.tensor(2.0), torch.tensor(falling)])
        >>> balance.weights
        tensor([0.5042, 0.4958])

    Reference:
        Zhao et al. (2023), B-MTARD, arXiv 2306.16170 (Normalization Loss Balance).
    """

    def __init__(self, losses: int = 2, rate: float = 0.025, beta: float = 1.0) -> None:
        if isinstance(losses, bool) or not isinstance(losses, int):
            raise TypeError(f"losses must be an int, got {type(losses).__name__}")
        _checks.require_number("losses", losses, low=2)
        self.rate = _checks.require_fraction("rate", rate)
        self.beta = _checks.require_number("beta", beta, low=0.0)
        self._weights = torch.full((losses,), 1.0 / losses)
        self._first: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """The weights, (losses,) float32, detached."""
        return self._weights

    def update(self, losses: Sequence[Tensor]) -> dict[str, Tensor]:
        """Take the losses of a batch and return the weights as metrics.

        Args:
            losses: one scalar for each, detached here; at the first update finite and above 0.

        Raises:
            ValueError: another number of losses, no scalar, or a first loss that later ones cannot be divided by.
        """
        if len(losses) != len(self._weights) or any(loss.dim() != 0 for loss in losses):
            shapes = [tuple(loss.shape) for loss in losses]
            raise ValueError(f"losses must be {len(self._weights)} scalars, got shapes {shapes}")
        values = torch.stack([loss.detach().float() for loss in losses])
        if self._first is None:
            if not bool(((values > 0) & values.isfinite()).all()):  # once, not at each step
                raise ValueError(f"first losses must be finite and above 0, got {values.tolist()}")
            self._first = values
        first = self._first.to(values.device)
        pace = (values / first).clamp(min=0.0) ** self.beta
        total = pace.sum()
        # All losses at 0: each is as fast as the others.
        share = torch.where(total > 0, pace / torch.where(total > 0, total, 1.0), 1.0 / len(values))
        weights = self._weights.to(values.device)
        self._weights = weights - self.rate * (weights - share)
        return {f"weight_{index}": weight for index, weight in enumerate(self._weights.unbind())}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, and the first losses (none before the first update)."""
        first = torch.empty(0) if self._first is None else self._first
        return {"weights": self._weights.clone(), "first": first.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: a key is missing or unknown, or the state is of another number of losses.
        """
        _checks.require_keys("state of LossBalance", state, ("weights", "first"))
        weights, first = state["weights"], state["first"]
        if weights.shape != self._weights.shape or first.numel() not in (0, len(self._weights)):
            raise ValueError(f"state must be of {len(self._weights)} losses, got {len(weights)}")
        self._weights = weights.clone()
        self._first = first.clone() if first.numel() else None
