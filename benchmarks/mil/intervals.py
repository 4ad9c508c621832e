"""Bootstrap intervals of the metrics of bags, resampled by patient.

The metrics are those of ``entroreg.vision.mil.fitting.bag_metrics``, here as functions of weights, so that
thousands of resamples are a few products of matrices. Letters: R resamples, n bags, C classes, U distinct scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entroreg.benchmarks.statistics import Interval
from entroreg.vision.mil.fitting.metrics import CALIBRATION_BINS, SPECIFICITY

Array = NDArray[np.float64]
_ROUNDING = 1e-9  # of 1 - FPR
_AT_ONCE = 2_000_000  # weights, 16 MB


def bootstrap_intervals(
    probs: Array,
    labels: NDArray[np.int64],
    patients: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Return percentile intervals of the metrics; resamples that leave a metric undefined do not count for it.

    Args:
        probs: (n, C).
        labels: (n,).
        patients: (n,), who are drawn with all their bags.
        confidence: of the intervals.
        resamples: how many.
        seed: of the draws.

    Returns:
        For each metric its interval; None with fewer than two patients, or if it is undefined in all resamples.
    """
    names, owners = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    count = len(names)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    parts = np.array_split(drawn, 1 + drawn.size // _AT_ONCE)
    found = [weighted_metrics(probs, labels, part[:, owners].astype(np.float64)) for part in parts]
    values = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return {
        name: None if count < 2 or np.isnan(of_metric).all() else _interval(of_metric, confidence)
        for name, of_metric in values.items()
    }


def weighted_metrics(probs: Array, labels: NDArray[np.int64], weights: Array) -> dict[str, Array]:
    """Return (R,) of each metric; NaN where a class that it needs has no weight.

    Args:
        probs: (n, C).
        labels: (n,).
        weights: (R, n), how often each bag counts.
    """
    classes = probs.shape[1]
    chosen = probs.argmax(axis=1)
    truth_nC, chosen_nC = np.eye(classes)[labels], np.eye(classes)[chosen]
    total, right = weights.sum(axis=1), (chosen == labels).astype(np.float64)
    hits_RC, truths_RC, chosens_RC = weights @ (truth_nC * chosen_nC), weights @ truth_nC, weights @ chosen_nC
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
        f1_RC = 2 * hits_RC / (truths_RC + chosens_RC)
        curves = [_curve(probs[:, label], labels == label, weights) for label in range(classes)]
        metrics = {
            "accuracy": weights @ right / total,
            "calibration_error": _calibration_error(probs.max(axis=1), right, weights),
            "macro_f1": np.nansum(f1_RC, axis=1) / np.isfinite(f1_RC).sum(axis=1),
            "balanced_accuracy": (hits_RC / truths_RC).mean(axis=1),
            "auroc": curves[1].auroc() if classes == 2 else np.mean([c.auroc() for c in curves], axis=0),
        }
        return metrics | ({"sensitivity": curves[1].sensitivity(SPECIFICITY)} if classes == 2 else {})


class _Curve(NamedTuple):
    """(R, U + 1) true and false positives, from the highest threshold to the lowest."""

    true: Array
    false: Array

    def auroc(self) -> Array:
        doubled = (np.diff(self.false, axis=1) * (self.true[:, 1:] + self.true[:, :-1])).sum(axis=1)
        area: Array = doubled / (2 * self.true[:, -1] * self.false[:, -1])
        return area

    def sensitivity(self, specificity: float) -> Array:
        most = (1 - specificity + _ROUNDING) * self.false[:, -1:]
        best: Array = np.where(self.false <= most, self.true, 0.0).max(axis=1) / self.true[:, -1]
        return np.where(self.false[:, -1] > 0, best, np.nan)


def _curve(scores: Array, positive: NDArray[np.bool_], weights: Array) -> _Curve:
    order = np.argsort(-scores, kind="stable")
    begins = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # of each distinct score

    def counts(mask: NDArray[np.bool_]) -> Array:
        summed = np.add.reduceat(weights[:, order] * mask[order], begins, axis=1).cumsum(axis=1)
        return np.concatenate([np.zeros((len(weights), 1)), summed], axis=1)

    return _Curve(counts(positive), counts(~positive))


def _calibration_error(confidence: Array, right: Array, weights: Array) -> Array:
    bins = np.eye(CALIBRATION_BINS + 1)[np.floor(confidence * CALIBRATION_BINS).astype(int)]  # 1 has its own bin
    gaps = np.abs(weights @ (bins * (right - confidence)[:, None]))
    error: Array = gaps.sum(axis=1) / weights.sum(axis=1)
    return error


def _interval(values: Array, confidence: float) -> Interval:
    low, high = np.nanquantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
