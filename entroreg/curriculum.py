"""QARL's curriculum: a Gamma distribution over temperatures that moves to a target while returns hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import digamma, gammaln

from entroreg import _checks

__all__ = ["GammaCurriculum", "gamma_kl", "importance_weighted_return", "nearest_feasible", "trust_region"]

_GRID = 257  # points at which the expected return is looked at between the two ends of the trust region
SMALLEST_TEMPERATURE = 1e-8  # a draw below it would underflow, and its importance weight would not be finite


def gamma_kl(shape: Any, other: float) -> Any:
    r"""Return the Kullback-Leibler divergence of two Gamma distributions of equal rate, in nats.

    $$KL(k \,\|\, k') = (k - k')\,\psi(k) - \log\Gamma(k) + \log\Gamma(k')$$

    Args:
        shape: k, above 0, a number or an array.
        other: k', above 0.

    Returns:
        At least 0, of the shape of ``shape``.

    Example:
        >>> round(float(gamma_kl(2.0, 1.0)), 4)
        0.4228
    """
    return (shape - other) * digamma(shape) - gammaln(shape) + gammaln(other)


def importance_weighted_return(shape: Any, old: float, rate: float, temperatures: Any, returns: Any) -> Any:
    r"""Return the expected return under another shape, estimated from episodes at the old one.

    $$\hat J(k) = \frac1n \sum_j \frac{p(\tau_j | k)}{p(\tau_j | k_\text{old})} J_j$$

    The weights are not normalised, as in the authors' code.

    Args:
        shape: k, above 0, a number or an array (m,).
        old: the shape that the temperatures were drawn from.
        rate: of both distributions.
        temperatures: (n,) above 0.
        returns: (n,).

    Returns:
        A number or (m,).

    Example:
        >>> float(importance_weighted_return(2.0, 1.0, rate=1.0, temperatures=[0.5], returns=[8.0]))
        4.0
    """
    logs = np.log(rate * np.asarray(temperatures, dtype=np.float64))
    log_weights = np.multiply.outer(np.asarray(shape) - old, logs)
    log_weights += np.expand_dims(gammaln(old) - gammaln(shape), -1)
    return (np.exp(log_weights) * np.asarray(returns)).mean(axis=-1)


def trust_region(shape: float, max_kl: float) -> tuple[float, float]:
    """Return the smallest and the largest k with KL(k || shape) <= max_kl.

    Args:
        shape: above 0.
        max_kl: above 0, nats.

    Example:
        >>> [round(end, 1) for end in trust_region(50.0, 0.5)]
        [43.3, 57.4]
    """

    def excess(k: float) -> float:
        return float(gamma_kl(k, shape)) - max_kl

    low, high = shape / 2.0, shape * 2.0
    while excess(low) < 0.0:
        low /= 2.0
    while excess(high) < 0.0:
        high *= 2.0
    return brentq(excess, low, shape, xtol=1e-300, rtol=1e-13), brentq(excess, shape, high, xtol=1e-300, rtol=1e-13)


def nearest_feasible(low: float, high: float, target: float, slack: Callable[[Any], Any], start: float) -> float:
    """Return the point of an interval with slack >= 0 that is nearest to the target, in the divergence.

    The feasible set may consist of several pieces: the slack is looked at on a grid, peaks between its points are
    climbed, and the end of the nearest piece is found by bisection, from inside.

    Args:
        low: above 0.
        high: at least low.
        target: the divergence from it falls towards it from both sides, so of a piece only the nearest end counts.
        slack: from points (m,) to (m,), continuous.
        start: a point that is feasible, and returned where nothing better is.

    Example:
        >>> nearest_feasible(1.0, 9.0, target=2.0, slack=lambda k: k - 4.0, start=8.0)
        4.0
    """
    aim = min(max(target, low), high)
    if slack(np.array([aim]))[0] >= 0.0:
        return aim
    points = np.unique(np.concatenate([np.geomspace(low, high, _GRID), [start, aim]]).clip(low, high))
    sides = (points[points <= aim][::-1], points[points >= aim])
    found = [start, *(k for side in sides for k in _first_feasible(side, slack))]
    return float(min(found, key=lambda k: float(gamma_kl(k, target))))


def _first_feasible(points: np.ndarray, slack: Callable[[Any], Any]) -> list[float]:
    """Return the feasible points that come first on the way along points, of which the first is not feasible."""
    values = np.asarray(slack(points))
    feasible = np.flatnonzero(values >= 0.0)
    first = int(feasible[0]) if len(feasible) else len(points)
    found = [_last_feasible(points[first], points[first - 1], slack)] if len(feasible) else []
    for peak in range(1, min(first, len(points) - 1)):  # a piece may lie between two points of the grid
        if values[peak] >= values[peak - 1] and values[peak] >= values[peak + 1]:
            bounds = sorted((points[peak - 1], points[peak + 1]))
            top = minimize_scalar(lambda k: -slack(np.array([k]))[0], bounds=bounds, method="bounded").x
            if slack(np.array([top]))[0] >= 0.0:
                return [*found, _last_feasible(top, points[peak - 1], slack)]
    return found


def _last_feasible(inside: float, outside: float, slack: Callable[[Any], Any]) -> float:
    """Return the last feasible point on the way from one that is feasible to one that is not, by bisection."""
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        if slack(np.array([middle]))[0] >= 0.0:
            inside = middle
        else:
            outside = middle
    return inside


class GammaCurriculum:
    r"""A Gamma distribution over temperatures, moved to a target as long as the returns stay above a floor.

    $$\min_k KL(k \,\|\, k^*) \quad \text{s.t.} \quad KL(k \,\|\, k_\text{old}) \le \epsilon, \; \hat J(k) \ge \xi$$

    once ``samples`` pairs of temperature and return have come in; nothing moves while their mean return is
    below the floor.
    Differs from the paper: the problem is solved by a bracketed search over all of the trust region, not by
    trust-constr from the old shape.

    Args:
        return_floor: xi, in units of the discounted return; the paper has 1 to 100 by task.
        shape: first k, above 0.
        target_shape: k*, above 0.
        rate: of all distributions, above 0; k / rate is the mean temperature.
        max_kl: epsilon, above 0, nats.
        samples: pairs for one step of the curriculum.

    Raises:
        TypeError: an argument that is no number.
        ValueError: a shape, rate or divergence that is not above 0, or a floor that is not finite.

    Example:
        >>> curriculum = GammaCurriculum(return_floor=10.0, samples=2)
        >>> moved = curriculum.observe([0.05, 0.06], [2000.0, 2000.0])
        >>> round(curriculum.shape, 1)
        43.3

    Reference:
        Reddi et al. (2024), "Robust Adversarial Reinforcement Learning via Bounded Rationality Curricula",
        arXiv 2311.01642.
    """

    def __init__(
        self,
        return_floor: float,
        *,
        shape: float = 50.0,
        target_shape: float = 1.0,
        rate: float = 1000.0,
        max_kl: float = 0.5,
        samples: int = 30,
    ) -> None:
        self.return_floor = _checks.require_number("return_floor", return_floor)
        self.shape = _checks.require_positive("shape", shape)
        self.target_shape = _checks.require_positive("target_shape", target_shape)
        self.rate = _checks.require_positive("rate", rate)
        self.max_kl = _checks.require_positive("max_kl", max_kl)
        self.samples = _checks.require_count("samples", samples)
        self.updates = 0
        self.held_back = 0
        self._pairs: list[tuple[float, float]] = []

    @property
    def mean(self) -> float:
        """Mean temperature, k / rate."""
        return self.shape / self.rate

    @property
    def finished(self) -> bool:
        """Whether the target is reached."""
        return self.shape == self.target_shape

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return temperatures (count,), at least 1e-8."""
        drawn: np.ndarray = rng.gamma(self.shape, 1.0 / self.rate, size=count)
        return drawn.clip(min=SMALLEST_TEMPERATURE)

    def observe(self, temperatures: Sequence[float], returns: Sequence[float]) -> dict[str, float] | None:
        """Take pairs from episodes, and a step of the curriculum once there are enough.

        Args:
            temperatures: (n,) above 0, drawn by ``draw``.
            returns: (n,) discounted returns of the protagonist.

        Returns:
            None while pairs are collected; else ``shape``, ``mean``, ``return_mean``, ``return_floor``, ``kl`` of
            the step, ``kl_to_target`` and ``held_back`` (1 where the floor forbade a move).

        Raises:
            ValueError: lengths differ, a temperature is not above 0, or a return is not finite.
        """
        pairs = [(float(tau), float(found)) for tau, found in zip(temperatures, returns, strict=True)]
        for tau, found in pairs:
            if not (0.0 < tau < math.inf and math.isfinite(found)):
                raise ValueError(
                    f"temperatures must be above 0 and returns finite, got the pair ({tau}, {found}): look at the "
                    "rewards of the last episodes"
                )
        self._pairs += pairs
        if len(self._pairs) < self.samples:
            return None
        taus, found_returns = (np.array(column) for column in zip(*self._pairs, strict=True))
        self._pairs = []
        return self._step(taus, found_returns)

    def _step(self, temperatures: np.ndarray, returns: np.ndarray) -> dict[str, float]:
        old, mean_return = self.shape, float(returns.mean())
        allowed = mean_return >= self.return_floor
        if allowed:
            low, high = trust_region(old, self.max_kl)

            def slack(k: np.ndarray) -> np.ndarray:
                found: np.ndarray = importance_weighted_return(k, old, self.rate, temperatures, returns)
                return found - self.return_floor

            self.shape = nearest_feasible(low, high, self.target_shape, slack, start=old)
        self.updates += 1
        self.held_back += not allowed
        return {
            "shape": self.shape,
            "mean": self.mean,
            "return_mean": mean_return,
            "return_floor": self.return_floor,
            "kl": float(gamma_kl(self.shape, old)),
            "kl_to_target": float(gamma_kl(self.shape, self.target_shape)),
            "held_back": float(not allowed),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return shape, counters and the pairs that wait."""
        return {
            "shape": self.shape,
            "updates": self.updates,
            "held_back": self.held_back,
            "pairs": [list(pair) for pair in self._pairs],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        _checks.require_keys("state of GammaCurriculum", state, ("shape", "updates", "held_back", "pairs"))
        self.shape = float(state["shape"])
        self.updates, self.held_back = int(state["updates"]), int(state["held_back"])
        self._pairs = [(float(tau), float(found)) for tau, found in state["pairs"]]
