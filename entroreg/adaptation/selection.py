"""Which samples of a stream are adapted to, and with what weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks

__all__ = ["Reliable", "ReliableAndDiverse"]

_KEPT_MEAN = 0.9  # EATA's share of the old mean of predictions


class Reliable:
    """SAR's weights: 1 for samples whose entropy is below a margin, else 0.

    Args:
        margin: nats, above 0; 0.4 log K in the paper.

    Raises:
        TypeError: margin not a number.
        ValueError: margin not above 0.

    Example:
        >>> Reliable(margin=0.9)(None, torch.tensor([0.1, 2.0]))
        tensor([1., 0.])

    Reference:
        Niu et al. (2023), SAR, arXiv 2302.12400, eq. 2.
    """

    def __init__(self, margin: float) -> None:
        self.margin = _checks.require_positive("margin", margin)

    def __call__(self, output: Any, entropy: Tensor) -> Tensor:
        """Return the weights (B,) of samples, detached.

        Args:
            output: of the model, not looked at.
            entropy: (B,) nats.
        """
        return (entropy.detach() < self.margin).to(entropy.dtype)

    def reset(self) -> None:
        """Nothing is remembered."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take no state.

        Raises:
            ValueError: there is one.
        """
        _checks.require_keys("state of Reliable", state, ())


class ReliableAndDiverse:
    r"""EATA's weights: of samples that are certain, and unlike the mean prediction so far.

    $$w = \exp(E_0 - H)\,[H < E_0]\,[\,|\cos(p, \bar p)| < \epsilon\,], \qquad \bar p \leftarrow 0.9\,\bar p +
      0.1\,\mathrm{mean}_{kept}\,p$$

    Args:
        classes: K.
        margin: E_0 as a share of log K, in (0, 1].
        similarity: epsilon in (0, 1]; 0.05 for ImageNet, 0.4 for CIFAR-10 in the authors' runs.

    Raises:
        TypeError: a number of another kind.
        ValueError: a number out of its range.

    Example:
        >>> select = ReliableAndDiverse(classes=2, margin=1.0)
        >>> select(torch.tensor([[9.0, -9.0], [0.0, 0.0]]), torch.tensor([0.0, 0.6931]))
        tensor([2.0000, 1.0000])

    Reference:
        Niu et al. (2022), EATA, arXiv 2204.02610, eqs. 2 to 6.
    """

    def __init__(self, classes: int, margin: float = 0.4, similarity: float = 0.05) -> None:
        _checks.require_number("classes", classes, low=2)
        self.margin = _checks.require_fraction("margin", margin) * math.log(classes)
        self.similarity = _checks.require_fraction("similarity", similarity)
        self._mean: Tensor | None = None

    def __call__(self, output: Any, entropy: Tensor) -> Tensor:
        """Return the weights (B,) of samples, detached, 0 for those left out; move the mean by those kept.

        Args:
            output: logits (B, K) of the model.
            entropy: (B,) of its predictions, nats.
        """
        entropy, probs = entropy.detach(), output.detach().float().softmax(dim=-1)
        kept = entropy < self.margin
        if self._mean is not None:
            kept = kept & (torch.cosine_similarity(probs, self._mean[None]).abs() < self.similarity)
        if bool(kept.any()):
            new = probs[kept].mean(dim=0)
            self._mean = new if self._mean is None else _KEPT_MEAN * self._mean + (1.0 - _KEPT_MEAN) * new
        return torch.where(kept, (self.margin - entropy).exp(), 0.0)

    def reset(self) -> None:
        """Forget the mean prediction."""
        self._mean = None

    def state_dict(self) -> dict[str, Any]:
        """Return the mean prediction, empty before the first sample."""
        return {"mean": torch.empty(0) if self._mean is None else self._mean.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the mean prediction.

        Raises:
            ValueError: a key is missing or unknown.
        """
        _checks.require_keys("state of ReliableAndDiverse", state, ("mean",))
        self._mean = state["mean"].clone() if state["mean"].numel() else None
