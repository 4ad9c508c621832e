"""A task in which each episode has a temperature, which is the last component of the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.envs.tasks import Env


def no_temperature() -> float:
    """Return 0: the temperature of a rational adversary, and of every evaluation."""
    return 0.0


class ObservedTemperature(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """A task whose observation ends with the episode's temperature.

    Args:
        env: a task with vectors as observations.
        next_temperature: asked at each reset; at least 0. Zeros if left out.

    Raises:
        TypeError: observations that are no vector.
    """

    def __init__(self, env: Env, next_temperature: Callable[[], float] = no_temperature) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(
            self, _disable_deepcopy=True, next_temperature=next_temperature
        )
        gymnasium.Wrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise TypeError(f"expected vectors as observations, got {space}")
        low, high = np.append(space.low, 0.0), np.append(space.high, np.inf)
        self.observation_space = spaces.Box(low.astype(space.dtype), high.astype(space.dtype), dtype=space.dtype)
        self.next_temperature = next_temperature
        self.temperature = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with its own temperature."""
        self.temperature = _checks.require_number("temperature", self.next_temperature(), low=0.0)
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with_temperature(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a control step."""
        observation, *rest = self.env.step(action)
        return (self._with_temperature(observation), *rest)  # type: ignore[return-value]

    def _with_temperature(self, observation: NDArray[Any]) -> NDArray[Any]:
        longer = np.empty(len(observation) + 1, dtype=self.observation_space.dtype)
        longer[:-1], longer[-1] = observation, self.temperature
        return longer
