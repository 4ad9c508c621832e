"""Where the temperatures of a training come from: GammaCurriculum of the core, and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from entroreg import _checks
from entroreg.curriculum import SMALLEST_TEMPERATURE, GammaCurriculum


class Curriculum(Protocol):
    """What draws the temperatures of a training's episodes and learns from their returns."""

    @property
    def mean(self) -> float:
        """Mean temperature at present."""

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the temperatures (count,) of the next episodes."""

    def observe(self, temperatures: Sequence[float], returns: Sequence[float]) -> dict[str, float] | None:
        """Take the discounted returns of episodes; return the metrics of a step, if one was taken."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it has learned."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""


class ConstantTemperature:
    """The same temperature in all episodes; 0 is a rational adversary.

    Args:
        temperature: at least 0.
    """

    def __init__(self, temperature: float = 0.0) -> None:
        self.temperature = _checks.require_number("temperature", temperature, low=0.0)

    @property
    def mean(self) -> float:
        """The temperature."""
        return self.temperature

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the temperature ``count`` times."""
        return np.full(count, self.temperature)

    def observe(self, temperatures: Sequence[float], returns: Sequence[float]) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""
        _checks.require_keys("state of ConstantTemperature", state, ())


class LinearTemperature:
    """A temperature that falls in a straight line, whatever the returns are: QARL's ablation.

    Args:
        episodes: over which it falls, pairs that are observed.
        start: first temperature.
        end: last one.

    Reference:
        Reddi et al. (2024), arXiv 2311.01642: .05 to .001 over the first two thirds of the training.
    """

    def __init__(self, episodes: int, start: float = 0.05, end: float = 0.001) -> None:
        self.episodes = _checks.require_count("episodes", episodes)
        self.start = _checks.require_number("start", start, low=0.0)
        self.end = _checks.require_number("end", end, low=0.0)
        self.seen = 0

    @property
    def mean(self) -> float:
        """The present temperature."""
        share = min(1.0, self.seen / self.episodes)
        return self.start + (self.end - self.start) * share

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the present temperature ``count`` times."""
        return np.full(count, self.mean)

    def observe(self, temperatures: Sequence[float], returns: Sequence[float]) -> dict[str, float]:
        """Count the episodes."""
        self.seen += len(temperatures)
        return {"mean": self.mean, "return_mean": float(np.mean(returns))}

    def state_dict(self) -> dict[str, Any]:
        """Return the count."""
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the count."""
        _checks.require_keys("state of LinearTemperature", state, ("seen",))
        self.seen = int(state["seen"])


class PointCurriculum:
    r"""One temperature in place of a distribution, moved while the returns stay above a floor: QARL's ablation.

    $$\min_\tau (\tau - \tau^*)^2 \quad \text{s.t.} \quad (\tau - \tau_\text{old})^2 \le \delta, \; \bar J \ge \xi$$

    Args:
        return_floor: xi, a discounted return.
        temperature: first one.
        target: last one.
        max_squared_step: delta.
        samples: episodes for one step.

    Reference:
        Reddi et al. (2024), arXiv 2311.01642, ablation; the defaults are those of its code.
    """

    def __init__(
        self,
        return_floor: float,
        *,
        temperature: float = 0.05,
        target: float = SMALLEST_TEMPERATURE,
        max_squared_step: float = 1e-6,
        samples: int = 30,
    ) -> None:
        self.return_floor = _checks.require_number("return_floor", return_floor)
        self.temperature = _checks.require_number("temperature", temperature, low=0.0)
        self.target = _checks.require_number("target", target, low=0.0)
        self.max_squared_step = _checks.require_positive("max_squared_step", max_squared_step)
        self.samples = _checks.require_count("samples", samples)
        self.updates, self.held_back = 0, 0
        self._returns: list[float] = []

    @property
    def mean(self) -> float:
        """The present temperature."""
        return self.temperature

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the present temperature ``count`` times."""
        return np.full(count, self.temperature)

    def observe(self, temperatures: Sequence[float], returns: Sequence[float]) -> dict[str, float] | None:
        """Take returns, and a step once there are enough."""
        self._returns += [float(found) for found in returns]
        if len(self._returns) < self.samples:
            return None
        mean_return, self._returns = float(np.mean(self._returns)), []
        allowed = mean_return >= self.return_floor
        if allowed:
            step = self.max_squared_step**0.5
            self.temperature += float(np.clip(self.target - self.temperature, -step, step))
        self.updates += 1
        self.held_back += not allowed
        return {
            "mean": self.temperature,
            "return_mean": mean_return,
            "return_floor": self.return_floor,
            "held_back": float(not allowed),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return temperature, counters and the returns that wait."""
        return {
            "temperature": self.temperature,
            "updates": self.updates,
            "held_back": self.held_back,
            "returns": list(self._returns),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        _checks.require_keys("state of PointCurriculum", state, ("temperature", "updates", "held_back", "returns"))
        self.temperature = float(state["temperature"])
        self.updates, self.held_back = int(state["updates"]), int(state["held_back"])
        self._returns = [float(found) for found in state["returns"]]


def floor_of(curriculum: Curriculum) -> float | None:
    """Return the floor that a curriculum holds its returns above, or None where it has none."""
    return curriculum.return_floor if isinstance(curriculum, GammaCurriculum | PointCurriculum) else None
