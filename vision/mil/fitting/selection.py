"""Which epoch of a fit is kept, and when waiting for a better one ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from entroreg import _checks
from entroreg.vision.mil.fitting.copying import copied

_KEYS = ("epoch", "score", "waited", "state")


class Selection:
    """Keeps the weights of the epoch with the highest score; of equal scores the later one, which trained longer.

    An equal score does not count as better for patience: small validation sets reach their best one many times.

    Attributes:
        epoch: that is kept, from 1; 0 before the first.
        score: its own; None where there is none to compare.
        waited: epochs since the score last rose.
        state: weights of that epoch.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.score: float | None = None
        self.waited = 0
        self.state: dict[str, Tensor] = {}

    def consider(self, epoch: int, score: float | None, model: nn.Module) -> None:
        """Look at an epoch; without a score the latest is kept.

        Args:
            epoch: from 1.
            score: higher is better.
            model: after it.
        """
        better = score is not None and (self.score is None or score > self.score)
        self.waited = 0 if better or score is None else self.waited + 1
        if better or score == self.score:
            self.epoch, self.score = epoch, score
            self.state = copied(model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return {name: copied(getattr(self, name)) for name in _KEYS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what was kept."""
        _checks.require_keys("state of Selection", state, _KEYS)
        for name in _KEYS:
            setattr(self, name, copied(state[name]))
