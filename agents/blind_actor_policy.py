"""A policy of SAC whose critic sees more than its actor."""

from __future__ import annotations

from typing import Any

import gymnasium
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor


class WithoutLast(BaseFeaturesExtractor):
    """Observations (B, D) without their last components.

    Args:
        observation_space: of vectors.
        count: of components that are left out.
    """

    def __init__(self, observation_space: gymnasium.Space[Any], count: int) -> None:
        self._size = observation_space.shape[0] - count  # type: ignore[index]
        super().__init__(observation_space, self._size)

    def forward(self, observations: Tensor) -> Tensor:
        """Return (B, D - count)."""
        return observations[:, : self._size]


class BlindActorPolicy(SACPolicy):
    """Stable-Baselines3's SAC policy whose actor does not see the last components of the observation.

    Args:
        hidden: their number.
        kwargs: all other arguments of ``SACPolicy``.
    """

    def __init__(self, *args: Any, hidden: int, **kwargs: Any) -> None:
        self._hidden = hidden
        super().__init__(*args, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """Return an actor behind the extractor that leaves them out."""
        return super().make_actor(WithoutLast(self.observation_space, self._hidden))
