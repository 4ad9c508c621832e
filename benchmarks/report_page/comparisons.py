"""How much better the best method is than another: the difference of scores, the ratio of times."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroreg.benchmarks.differences import difference, paired_difference, paired_ratio, ratio
from entroreg.benchmarks.estimates import is_median
from entroreg.benchmarks.readings import Measurement
from entroreg.benchmarks.statistics import iqm

__all__ = ["BETTER", "EVEN", "compare"]

BETTER, EVEN = "better", "no difference shown"


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
    rng = np.random.default_rng(0)
    by_ratio = best.quantity.is_time and min(x.min(), y.min()) > 0.0  # a speed of 0 has no ratio
    if by_ratio:
        value, interval = (paired_ratio if paired else ratio)(more, less, rng=rng)
    else:
        statistic = np.median if is_median(best.quantity) else iqm
        value, interval = (paired_difference if paired else difference)(
            more[:, None], less[:, None], statistic, rng=rng
        )
    shown = interval is not None and interval.low > (1.0 if by_ratio else 0.0)
    return {
        "method": other.method,
        "kind": "ratio" if by_ratio else "difference",
        "value": value,
        "interval": None if interval is None else list(interval),
        "paired": paired,
        "verdict": BETTER if shown else EVEN,
    }
