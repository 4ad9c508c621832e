"""What the statistics share: the checks of their arguments, resampling, and percentiles of what was resampled.

Letters: R resamples, S seeds, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Statistic = Callable[..., Any]  # reduces the axes given as ``axis``, as np.mean, np.median and iqm do


class Interval(NamedTuple):
    """A confidence interval; both ends belong to it."""

    low: float
    high: float


def check_finite(name: str, values: Array) -> Array:
    """Return values if there is at least one and all are finite; else raise ValueError."""
    if values.size == 0:
        raise ValueError(f"{name} must have at least one score, got shape {values.shape}: pass finished runs")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        got = f"got {values[index]} at index {index}"
        raise ValueError(f"{name} must be finite, {got}: a diverged run needs a score, such as the task's lowest")
    return values


def check_scores(name: str, scores: ArrayLike) -> Array:
    """Return scores as an (S, T) array; ValueError if they are of another shape or not finite."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(
            f"{name} must have shape (seeds, tasks), got {values.shape}: use scores[:, None] for one task"
        )
    return check_finite(name, values)


def check_pair(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Return x (S, T) and y (S', T) as arrays; ValueError as `check_scores` and for other numbers of tasks."""
    x_ST, y_ST = check_scores("x", x), check_scores("y", y)
    if x_ST.shape[1] != y_ST.shape[1]:
        raise ValueError(
            f"x and y must have the same tasks, got {x_ST.shape[1]} and {y_ST.shape[1]}: drop the others"
        )
    return x_ST, y_ST


def check_bootstrap(confidence: float, resamples: int) -> None:
    """Raise ValueError if either is out of range."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}: 0.95 is usual")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}: 2000 is usual")


def bootstrap_estimates(values: Array, statistic: Statistic, resamples: int, rng: np.random.Generator) -> Array:
    """Return a statistic of each resample, (R,), with the seeds of each task of the (S, T) values drawn anew."""
    seeds, tasks = values.shape
    picked_RST = rng.integers(seeds, size=(resamples, seeds, tasks))
    estimates = np.asarray(statistic(values[picked_RST, np.arange(tasks)], axis=(1, 2)))
    if estimates.shape != (resamples,):
        raise ValueError(
            f"statistic must return shape ({resamples},), got {estimates.shape}: reduce the axes given as `axis`"
        )
    return estimates


def resampled_counts(seeds: int, tasks: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each resample takes each seed of each task, (R, T, S)."""
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=(resamples, tasks))


def percentiles(estimates: Array, confidence: float) -> tuple[Array, Array]:
    """Return both ends of the middle ``confidence`` of the estimates (R, ...), each of shape (...)."""
    low, high = np.quantile(estimates, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def interval_of(estimates: Array, confidence: float) -> Interval:
    """Return the middle ``confidence`` of the estimates (R,)."""
    low, high = percentiles(estimates, confidence)
    return Interval(float(low), float(high))
