"""The law by which reward is bought with entropy: R = -a exp(H) + b."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class EntropyLaw(NamedTuple):
    """R = -a exp(H) + b, fitted.

    Attributes:
        a: reward that one unit of exp(entropy) costs.
        b: reward at exp(H) = 0.
        ceiling: b - a: the reward at entropy 0, where nothing is left to spend.
        ceiling_interval: 95 % confidence interval of the ceiling, for independent normal residuals. Steps of one
            training are neither, so read it as a lower bound of the uncertainty.
        r_squared: share of the reward's variance that the law explains.

    Example:
        >>> law = EntropyLaw(a=0.5, b=1.2, ceiling=0.7, ceiling_interval=(0.6, 0.8), r_squared=0.9)
        >>> float(law.forecast(0.0))
        0.7
    """

    a: float
    b: float
    ceiling: float
    ceiling_interval: tuple[float, float]
    r_squared: float

    def forecast(self, entropy: float | Sequence[float]) -> np.ndarray:
        """Return the reward at an entropy or at several, nats: the shape of ``entropy``."""
        forecast: np.ndarray = self.b - self.a * np.exp(np.asarray(entropy, dtype=np.float64))
        return forecast


def fit_entropy_law(entropy: Sequence[float], reward: Sequence[float]) -> EntropyLaw:
    r"""Return the least-squares fit of reward against the exponential of entropy.

    $$R = -a\, e^{H} + b$$

    Linear in exp(H), so the fit is exact and needs no start. The paper fits the first 15 % of a training and
    forecasts the rest.

    Args:
        entropy: (n,) mean entropy of the policy at each step, nats; n >= 3.
        reward: (n,) mean reward, or accuracy, at the same steps.

    Returns:
        The law with its ceiling.

    Raises:
        ValueError: lengths that differ, fewer than 3 steps, a value that is not finite, or an entropy that never
            changes.

    Example:
        >>> law = fit_entropy_law([1.0, 0.5, 0.2], [0.1, 0.4, 0.5])
        >>> round(law.ceiling, 2)
        0.57

    Reference:
        Cui et al. (2025), arXiv 2505.22617, eq. 1.
    """
    spent, gained = (np.asarray(values, dtype=np.float64) for values in (entropy, reward))
    if spent.shape != gained.shape or spent.ndim != 1:
        raise ValueError(f"entropy and reward must be of one length, got shapes {spent.shape} and {gained.shape}")
    if len(spent) < 3:
        raise ValueError(f"the law has two unknowns and needs at least 3 steps, got {len(spent)}")
    if not (np.isfinite(spent).all() and np.isfinite(gained).all()):
        raise ValueError("entropy and reward must be finite: leave out the steps that have none")
    if np.ptp(spent) == 0.0:
        raise ValueError(f"entropy is {spent[0]} at every step: there is nothing to fit")
    exponential = np.exp(spent)
    design = np.stack([-exponential, np.ones_like(spent)], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, gained, rcond=None)
    residual = gained - design @ (a, b)
    freedom = len(spent) - 2
    at_ceiling = np.array([-1.0, 1.0])
    variance = residual @ residual / freedom * at_ceiling @ np.linalg.inv(design.T @ design) @ at_ceiling
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(variance))
    spread = float(((gained - gained.mean()) ** 2).sum())
    ceiling = float(b - a)
    explained = 1.0 - float(residual @ residual) / spread if spread > 0.0 else 1.0
    return EntropyLaw(float(a), float(b), ceiling, (ceiling - half, ceiling + half), explained)
