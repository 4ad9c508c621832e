"""What keeps several teachers in balance: temperatures that equal their entropies, and weights of their losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.loss_balance import LossBalance
from entroreg.measures.categorical import categorical_entropy
from entroreg.temperature_matching import MatchTemperature
from entroreg.vision.distillation.settings import BalanceSettings

__all__ = ["Balance"]


class Balance:
    """Temperatures and weights of a set of teachers; of fewer than two it leaves the losses alone.

    Args:
        settings: what is balanced, and how.
        teachers: how many.

    Example:
        >>> balance = Balance(BalanceSettings(entropy="none", losses=False), 2)
        >>> balance.temperatures([torch.zeros(1, 2), torch.zeros(1, 2)])
        tensor([1., 1.])
        >>> balance.combined([torch.tensor(1.0), torch.tensor(3.0)])[0]
        tensor(2.)
    """

    def __init__(self, settings: BalanceSettings, teachers: int) -> None:
        self._settings = settings
        several = teachers > 1
        self.match: MatchTemperature | None = None
        self.weights: LossBalance | None = None
        if several and settings.entropy != "none":
            self.match = MatchTemperature(teachers, settings.entropy, settings.entropy_rate)
        if several and settings.losses:
            self.weights = LossBalance(teachers, settings.loss_rate)
        self._metrics: dict[str, Tensor] = {}  # of the step that is being taken

    def slow_down(self, factor: float) -> None:
        """Set both rates to ``factor`` times what they began with."""
        if self.match is not None:
            self.match.rate = self._settings.entropy_rate * factor
        if self.weights is not None:
            self.weights.rate = self._settings.loss_rate * factor

    def temperatures(self, logits: Sequence[Tensor]) -> Tensor:
        """Return (teachers,) temperatures for a batch: solved for it, or, in mode sign, those before its step.

        Args:
            logits: one (B, K) floating for each teacher.
        """
        if self.match is None:
            self._metrics = {f"entropy_{i}": categorical_entropy(z).mean() for i, z in enumerate(logits)}
            return torch.ones(len(logits), device=logits[0].device)
        before = self.match.temperatures
        self._metrics = self.match.update(logits)
        return self.match.temperatures if self.match.mode == "solve" else before

    def combined(self, losses: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return one loss of a step's losses, and what there is to say of the step.

        Args:
            losses: scalars, one or one for each teacher.

        Returns:
            The weighted sum, by default the mean, and metrics by name.
        """
        metrics, self._metrics = self._metrics, {}
        if len(losses) == 1:
            return losses[0], metrics
        weights = torch.full((len(losses),), 1.0 / len(losses))
        if self.weights is not None:
            metrics |= self.weights.update(losses)
            weights = self.weights.weights
        stacked = torch.stack(list(losses))
        metrics |= {f"loss_{index}": loss.detach() for index, loss in enumerate(losses)}
        return (weights.to(stacked) * stacked).sum(), metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both, without one that is not there."""
        parts = {"match": self.match, "weights": self.weights}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: the state is of another balance.
        """
        _checks.require_keys("state of Balance", state, self.state_dict())
        if self.match is not None:
            self.match.load_state_dict(state["match"])
        if self.weights is not None:
            self.weights.load_state_dict(state["weights"])
