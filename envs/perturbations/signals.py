"""Disturbances of what an agent sees and of what it does: noise and delay."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg import _checks

SIGNALS = ("observation_noise", "action_noise", "delay")


class Signals:
    """Noise on observations and actions, and actions that arrive late.

    Args:
        low: (A,) smallest actions.
        high: (A,) largest actions.
    """

    def __init__(self, low: NDArray[Any], high: NDArray[Any]) -> None:
        self._low, self._high = low, high
        self._values = dict.fromkeys(SIGNALS, 0.0)
        self._late: deque[NDArray[Any]] = deque()

    @staticmethod
    def checked(name: str, value: float) -> float:
        """Return a signal's value; refuse a negative one, and a delay that is no whole number of steps."""
        number = _checks.require_number(name, value, low=0.0)
        if name == "delay" and number != int(number):
            raise ValueError(f"delay must be a whole number of control steps, got {value}")
        return number

    def set(self, values: dict[str, float]) -> None:
        """Take the values of all signals; those not named are 0."""
        self._values = {name: self.checked(name, values.get(name, 0.0)) for name in SIGNALS}
        self.reset()

    def reset(self) -> None:
        """Begin an episode: until the first action arrives, the one nearest to 0 acts."""
        idle = np.clip(np.zeros_like(self._low), self._low, self._high)
        self._late = deque([idle] * int(self._values["delay"]))

    def action(self, action: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Return what arrives: late, and with noise in units of half the range."""
        if self._values["delay"]:
            self._late.append(np.array(action))
            action = self._late.popleft()
        if not self._values["action_noise"]:
            return action
        scale = 0.5 * (self._high - self._low) * self._values["action_noise"]
        noisy = np.clip(action + scale * rng.standard_normal(np.shape(action)), self._low, self._high)
        arrived: NDArray[Any] = noisy.astype(np.asarray(action).dtype)
        return arrived

    def observation(self, observation: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Return what is seen: with noise in the observation's own units."""
        if not self._values["observation_noise"]:
            return observation
        noise = self._values["observation_noise"] * rng.standard_normal(observation.shape)
        return (observation + noise).astype(observation.dtype)
