"""Random steps of QARL's curriculum: temperatures from an old shape, returns, and the floor under them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from entroreg.curriculum import gamma_kl, importance_weighted_return, trust_region

RATE, TARGET, MAX_KL, SAMPLES = 1000.0, 1.0, 0.5, 30
_SHAPES = (0.5, 60.0)
_DENSE = 20_001  # points at which the pieces of a feasible set are counted
_DEEPEST = 1.3  # above 1, the floor lies below the lowest expected return: all of the trust region is feasible


@dataclass(frozen=True)
class Problem:
    """One step: move the old shape as near to the target as the divergence and the floor allow."""

    old: float
    """The shape that the temperatures were drawn from."""
    temperatures: np.ndarray
    """(30,) above 0."""
    returns: np.ndarray
    """(30,), of mean at least the floor."""
    floor: float
    """The least expected return."""
    kind: str
    """How the returns depend on the temperature: ``noise``, ``line`` or ``bumps``."""

    def objective(self, shape: float) -> float:
        """Return the divergence from the target, in nats."""
        return float(gamma_kl(shape, TARGET))

    def expected_return(self, shape: float | np.ndarray) -> np.ndarray:
        """Return the expected return at one shape or at several (m,)."""
        found = importance_weighted_return(shape, self.old, RATE, self.temperatures, self.returns)
        return np.asarray(found, dtype=np.float64)

    def is_feasible(self, shape: float, tolerance: float) -> bool:
        """Whether a shape keeps both limits, the floor relative to the largest return."""
        unit = tolerance * float(np.abs(self.returns).max())
        near = gamma_kl(shape, self.old) <= MAX_KL + tolerance
        return bool(near and self.expected_return(shape) >= self.floor - unit)

    def pieces(self) -> int:
        """Return the number of intervals that the feasible set has, as far as a dense grid can tell."""
        inside = np.concatenate([[False], self.expected_return(_grid(self.old)) >= self.floor])
        return int((inside[1:] & ~inside[:-1]).sum())


def random_problem(seed: int, index: int) -> Problem:
    """Return one problem, which other indices of the seed do not change."""
    rng = np.random.default_rng((seed, index))
    old = float(np.exp(rng.uniform(*np.log(_SHAPES))))
    temperatures = rng.gamma(old, 1.0 / RATE, size=SAMPLES).clip(min=1e-8)
    kind = str(rng.choice(list(_RETURNS)))
    scores = (np.log(RATE * temperatures) - np.log(old)) * np.sqrt(old)  # about one for each standard deviation
    returns = rng.uniform(5.0, 50.0) * _RETURNS[kind](scores, rng)
    reached = Problem(old, temperatures, returns, 0.0, kind).expected_return(_grid(old))
    mean = float(returns.mean())
    floor = mean - rng.uniform(0.0, _DEEPEST) * (mean - float(reached.min()))
    return Problem(old, temperatures, returns, floor, kind)


def _grid(old: float) -> np.ndarray:
    return np.sort(np.append(np.geomspace(*trust_region(old, MAX_KL), _DENSE), old))


def _noise(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 1.0 + rng.uniform(0.1, 1.0) * rng.standard_normal(len(scores))


def _line(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 1.0 + rng.uniform(-1.0, 1.0) * scores + 0.2 * rng.standard_normal(len(scores))


def _bumps(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a sum of three bumps, of either sign: what divides feasible sets."""
    centres, heights = rng.uniform(-2.5, 2.5, size=3), rng.uniform(-3.0, 3.0, size=3)
    bumps = heights * np.exp(-2.0 * (scores[:, None] - centres) ** 2)
    return np.asarray(1.0 + bumps.sum(axis=-1) + 0.1 * rng.standard_normal(len(scores)), dtype=np.float64)


_RETURNS = {"noise": _noise, "line": _line, "bumps": _bumps}
