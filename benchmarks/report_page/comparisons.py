"""How much better the best method is than another: the difference of scores, the ratio of times."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.benchmarks.differences import difference, paired_ratio
from entroreg.benchmarks.readings import Measurement
from entroreg.benchmarks.report_page.estimates import is_median
from entroreg.benchmarks.statistics import Interval, iqm, stratified_bootstrap_interval

__all__ = ["BETTER", "EVEN", "compare"]

BETTER, EVEN = "better", "no difference shown"

Array = NDArray[np.float64]


def compare(best: Measurement, other: Measurement, in_turn: bool) -> dict[str, Any]:
    """Return how much better one method is than another, with a 95 % bootstrap interval and a verdict.

    Scores of seeds that both methods have are pairs and are resampled together, if neither has others; so are
    rounds in which both took turns. Times of seeds, which were measured one after the other, are no pairs.

    Args:
        best: of a quantity and task, with a value at least.
        other: of the same, with a value at least.
        in_turn: whether rounds of one number are one round of both.

    Returns:
        ``kind``, ``difference`` or ``ratio``; ``value``: how much better, above 0 or how many times as good, above
        1, in whichever direction the quantity is better; ``interval``, None where one of both has a single value;
        ``paired``; and the ``verdict``.
    """
    pairs = in_turn if best.quantity.over == "round" else not best.quantity.is_time
    paired = pairs and best.values.keys() == other.values.keys()
    keys = sorted(best.values)
    x = np.array([best.values[key] for key in keys])
    y = np.array([other.values[key] for key in (keys if paired else sorted(other.values))])
    more, less = (x, y) if best.quantity.better == "higher" else (y, x)
    by_ratio = best.quantity.is_time and min(x.min(), y.min()) > 0.0  # a speed of 0 has no ratio
    if by_ratio:
        value, interval = _ratio(more, less, paired)
    else:
        value, interval = _difference(more, less, paired, np.median if is_median(best.quantity) else iqm)
    shown = interval is not None and interval.low > (1.0 if by_ratio else 0.0)
    return {
        "method": other.method,
        "kind": "ratio" if by_ratio else "difference",
        "value": value,
        "interval": None if interval is None else list(interval),
        "paired": paired,
        "verdict": BETTER if shown else EVEN,
    }


def _ratio(more: Array, less: Array, paired: bool) -> tuple[float, Interval | None]:
    if paired:
        return paired_ratio(more, less, rng=np.random.default_rng(0))
    logs, interval = difference(more[:, None], less[:, None], _log_median, rng=np.random.default_rng(0))
    ends = None if interval is None else Interval(float(np.exp(interval.low)), float(np.exp(interval.high)))
    return float(np.exp(logs)), ends


def _log_median(values: Array, axis: tuple[int, ...]) -> Any:
    return np.log(np.median(values, axis=axis))


def _difference(more: Array, less: Array, paired: bool, statistic: Any) -> tuple[float, Interval | None]:
    if not paired:
        return difference(more[:, None], less[:, None], statistic, rng=np.random.default_rng(0))

    # Not the statistic of the differences: what is shown beside both methods' own numbers is their difference.
    def of_pairs(picked: Array, axis: tuple[int, ...]) -> Any:
        index = picked.astype(np.int64)
        return statistic(more[index], axis=axis) - statistic(less[index], axis=axis)

    pairs = np.arange(len(more), dtype=np.float64)[:, None]
    value = float(statistic(more, axis=(0,)) - statistic(less, axis=(0,)))
    return value, stratified_bootstrap_interval(pairs, of_pairs, rng=np.random.default_rng(0))
