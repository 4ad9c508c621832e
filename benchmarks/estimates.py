"""What stands for the values of one method: interquartile mean over seeds, median of rounds and of times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from entroreg.benchmarks.readings import Measurement, Quantity
from entroreg.benchmarks.statistics import Interval, iqm, stratified_bootstrap_interval

__all__ = ["Estimate", "best_first", "centre", "estimate", "is_median"]


class Estimate(NamedTuple):
    """A number with its 95 % bootstrap interval, None where one value says nothing of the spread."""

    value: float
    interval: Interval | None


def is_median(quantity: Quantity) -> bool:
    """Whether a quantity's values are told by their median, as times and rounds are, else by their IQM."""
    return quantity.is_time or quantity.over == "round"


def centre(measurement: Measurement) -> float | None:
    """Return the number that stands for a measurement's values, None if it has none."""
    values = list(measurement.values.values())
    if not values:
        return None
    return float(np.median(values)) if is_median(measurement.quantity) else iqm(values)


def estimate(measurement: Measurement) -> Estimate | None:
    """Return `centre` with its interval, None if there are no values."""
    value = centre(measurement)
    if value is None:
        return None
    column = np.array(list(measurement.values.values()))[:, None]
    statistic = np.median if is_median(measurement.quantity) else iqm
    return Estimate(value, stratified_bootstrap_interval(column, statistic, rng=np.random.default_rng(0)))


def best_first(found: list[Measurement]) -> list[Measurement]:
    """Return the measurements of one quantity from best to worst, those without a value last; ties keep order."""

    def rank(measurement: Measurement) -> float:
        value = centre(measurement)
        if value is None:
            return np.inf
        return -value if measurement.quantity.better == "higher" else value

    return sorted(found, key=rank)
