"""A method's scores over seeds as a row of a summary, and as a line of text."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroreg.benchmarks.statistics import (
    Interval,
    iqm,
    probability_of_improvement,
    probability_of_improvement_interval,
    stratified_bootstrap_interval,
)


def score_row(method: str, scores: list[float], seeds: int, first: list[float] | None) -> dict[str, Any]:
    """Return a method's scores with their IQM, its interval, and the probability that the first method is better.

    Args:
        method: its name.
        scores: one for each seed that is done.
        seeds: that were asked for.
        first: scores of the method that it is compared with, or None.
    """
    row: dict[str, Any] = {"method": method, "done": len(scores), "seeds": seeds, "scores": scores}
    if scores:
        column = np.array(scores)[:, None]
        row["iqm"] = iqm(column)
        row["interval"] = _ends(stratified_bootstrap_interval(column, rng=np.random.default_rng(0)))
        if first:
            reference = np.array(first)[:, None]
            row["first_is_better"] = probability_of_improvement(reference, column)
            interval = probability_of_improvement_interval(reference, column, rng=np.random.default_rng(0))
            row["first_is_better_interval"] = _ends(interval)
    return row


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def line_of(row: dict[str, Any]) -> str:
    """Return a row as a line for a terminal."""
    text = f"  {row['method']:24} {row['done']} of {row['seeds']} seeds"
    if "iqm" in row:
        text += f"   {row['iqm']:9.1f}"
    if row.get("interval"):
        text += "   [{:.1f}, {:.1f}]".format(*row["interval"])
    if "first_is_better" in row:
        text += f"   P(first is better) {row['first_is_better']:.2f}"
    if "alpha" in row:
        text += "   alpha {:.3f} to {:.3f}".format(*row["alpha"])
    return text
