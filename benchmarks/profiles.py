"""Performance profiles: what share of the runs scores above each threshold, with pointwise bootstrap bands.

Scores are arrays of shape (S, T), as in `entroreg.benchmarks.statistics`. Letters: K thresholds, R resamples,
S seeds, T tasks.

Reference: R. Agarwal, M. Schwarzer, P. S. Castro, A. Courville, M. G. Bellemare, "Deep Reinforcement Learning at
the Edge of the Statistical Precipice", NeurIPS 2021, section 4.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from entroreg.benchmarks._bootstrap import Array, check_bootstrap, check_scores, percentiles, resampled_counts

__all__ = ["Band", "performance_profile", "performance_profile_interval"]


class Band(NamedTuple):
    """An interval at each of K thresholds; both ends belong to it."""

    low: Array
    high: Array


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    r"""Share in [0, 1] of the runs that score above each threshold: the run-score distribution.

    .. math:: \hat F(\tau) = \frac{1}{T} \sum_t \frac{1}{S} \sum_s 1[x_{s,t} > \tau]

    Args:
        scores: (S, T), finite, on one scale for all tasks, such as normalised by an expert's.
        thresholds: (K,), finite, in any order and in the unit of the scores.

    Returns:
        (K,); falls as the threshold rises. A score equal to a threshold is not above it.

    Raises:
        ValueError: scores or thresholds of another shape, empty or not finite.

    Example:
        >>> performance_profile([[0.0, 1.0], [0.5, 2.0]], [0.0, 1.0, 2.0])
        array([0.75, 0.25, 0.  ])

    Reference:
        Agarwal et al. 2021, section 4.2; the same as rliable's ``score_distributions``.
    """
    return np.asarray(_is_above(scores, thresholds).mean(axis=(0, 1)), dtype=np.float64)


def performance_profile_interval(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    rng: np.random.Generator,
) -> Band | None:
    """Percentile bootstrap intervals of `performance_profile`, with the seeds of each task resampled on their own.

    The intervals are pointwise: each holds its own point with this confidence, not all points at once. Where all
    runs, or none, are above a threshold, the interval has no width, however few the runs.

    Args:
        scores: (S, T), finite.
        thresholds: (K,), finite.
        confidence: the share of repeated experiments in which an interval should hold the truth, in (0, 1).
        resamples: how many bootstrap samples; one serves all thresholds.
        rng: the source of the resampling.

    Returns:
        Both ends, each of shape (K,), or None with fewer than two seeds.

    Raises:
        ValueError: as `performance_profile`, or ``confidence`` or ``resamples`` out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> performance_profile_interval([[0.0], [1.0]], [-1.0, 0.5], rng=rng)
        Band(low=array([1., 0.]), high=array([1., 1.]))

    Reference:
        Agarwal et al. 2021, section 4.2.
    """
    above_STK = _is_above(scores, thresholds)
    check_bootstrap(confidence, resamples)
    seeds, tasks, count = above_STK.shape
    if seeds < 2:
        return None
    # The profile is linear in how often a resample takes each seed: no resampled scores are compared again. Counts,
    # not shares, keep the sums exact, so that equal profiles are equal numbers.
    counts_RTS = resampled_counts(seeds, tasks, resamples, rng).astype(np.float64)
    above_TSK = np.moveaxis(above_STK, 0, 1).astype(np.float64)
    sums_RK = counts_RTS.reshape(resamples, -1) @ above_TSK.reshape(-1, count)
    return Band(*percentiles(sums_RK / (seeds * tasks), confidence))


def _is_above(scores: ArrayLike, thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Whether each score is above each threshold, (S, T, K)."""
    values, levels = check_scores("scores", scores), np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or levels.size == 0:
        raise ValueError(f"thresholds must have shape (K,) with K > 0, got {levels.shape}: use [1.0] for one")
    if not np.isfinite(levels).all():
        bad = levels[~np.isfinite(levels)][0]
        raise ValueError(
            f"thresholds must be finite, got {bad}: use np.linspace from the lowest score to the highest"
        )
    return np.asarray(values[..., None] > levels)
