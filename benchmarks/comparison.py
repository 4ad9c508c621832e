"""What changed between two runs of the same suites: better, worse, or no difference shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from entroreg.benchmarks.bench import load_suite
from entroreg.benchmarks.differences import difference, paired_difference, ratio
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.estimates import centre, is_median
from entroreg.benchmarks.ranges import LARGEST
from entroreg.benchmarks.readings import Measurement, measurements
from entroreg.benchmarks.statistics import Interval, iqm

__all__ = ["Change", "as_text", "changes", "is_regression", "to_json"]

FEWEST = 3
"""Values of each run that a regression takes."""

Verdict = Literal["better", "worse", "faster", "slower", "failed", "no difference shown", "only in A", "only in B"]


@dataclass(frozen=True)
class Change:
    """One quantity of one method on one task, in run A and in run B."""

    suite: str
    """Of both."""
    task: str
    """Of the suite."""
    method: str
    """Of the suite."""
    quantity: str
    """What was measured."""
    unit: str
    """Of ``a`` and ``b``."""
    is_ratio: bool
    """Whether ``change`` is a ratio, as of times, not a difference."""
    a: float | None
    """IQM over the seeds of A, of times and rounds the median; None if it has none."""
    b: float | None
    """The same of B."""
    seeds: tuple[str, str]
    """How many seeds or rounds of those asked for each run has, such as ``4 of 5 seeds``."""
    change: float | None
    """``b`` minus ``a``, or their ratio."""
    interval: Interval | None
    """Of the change, 95 %; None where a run has fewer than two seeds."""
    few: bool
    """Whether a run has fewer than three values, of which an interval says little."""
    verdict: Verdict
    """A change is shown where the interval leaves out none and the change is above the tolerance."""


def changes(
    a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]], tolerance: float = 0.0
) -> list[Change]:
    """Return what changed from run A to run B, in the order of A.

    Where both runs have the same seeds, scores are compared in pairs. Between equal things a change is shown about
    once in 20 comparisons with ten seeds, in 10 with five, in 4 with three, in 2 with two.

    Args:
        a: summaries by name, as ``bench.summaries_in`` returns them.
        b: those of the other run.
        tolerance: share of A's value below which a change is not shown, from 0.

    Raises:
        UserError: the runs have no suite with the same preset in common, or the tolerance is out of range.
    """
    if not 0.0 <= tolerance <= LARGEST:
        raise UserError(f"tolerance must be at least 0 and at most {LARGEST:g}, got {tolerance:g}")
    suites = [{_suite(summary) for summary in run.values()} for run in (a, b)]
    if not suites[0] & suites[1]:
        got = " and ".join(", ".join(f"{name} ({preset})" for name, preset in sorted(run)) for run in suites)
        raise UserError(f"both runs must have a suite with the same preset, got {got}: run one of them in both")
    rows_a, rows_b = _rows(a), _rows(b)
    keys = [key for key in dict.fromkeys([*rows_a, *rows_b]) if key[0] in suites[0] & suites[1]]
    return [_change(key, rows_a.get(key), rows_b.get(key), tolerance) for key in keys]


def is_regression(change: Change) -> bool:
    """Whether a change is for the worse and from enough values; a method that B no longer finishes is one too."""
    return change.verdict in ("failed", "only in A") or (change.verdict in ("worse", "slower") and not change.few)


_Key = tuple[tuple[str, str], str, str, str, str]  # (suite, preset), the summary's name, task, method, quantity


def _suite(summary: Mapping[str, Any]) -> tuple[str, str]:
    return summary["suite"], summary["preset"]


def _rows(summaries: Mapping[str, Mapping[str, Any]]) -> dict[_Key, Measurement]:
    often = Counter(_suite(summary) for summary in summaries.values())
    return {
        # A name tells apart what has one suite and preset, and may differ between runs where nothing else does.
        (_suite(summary), name if often[_suite(summary)] > 1 else "", row.task, row.method, row.quantity.name): row
        for name, summary in summaries.items()
        for row in measurements(load_suite(summary["suite"]), summary)
    }


def _change(key: _Key, a: Measurement | None, b: Measurement | None, tolerance: float) -> Change:
    (suite, _), name, task, method, _ = key
    either = a or b
    assert either is not None  # one of them has the key
    found = None if a is None or b is None else _difference(a, b)
    return Change(
        suite=name or suite,
        task=task,
        method=method,
        quantity=either.quantity.name,
        unit=either.quantity.unit,
        is_ratio=either.quantity.is_time,
        a=None if a is None else centre(a),
        b=None if b is None else centre(b),
        seeds=("none" if a is None else a.count, "none" if b is None else b.count),
        change=None if found is None else found[0],
        interval=None if found is None else found[1],
        few=any(row is None or len(row.values) < FEWEST for row in (a, b)),
        verdict=_verdict(a, b, found, tolerance),
    )


def _difference(a: Measurement, b: Measurement) -> tuple[float, Interval | None] | None:
    """B minus A, or of times B over A; None where there is none."""
    x, y = _column(b), _column(a)
    if not len(x) or not len(y):
        return None
    rng = np.random.default_rng(0)
    if a.quantity.is_time:  # rounds of one run are not those of another
        return ratio(x, y, rng=rng) if min(x.min(), y.min()) > 0.0 else None
    of = paired_difference if a.values.keys() == b.values.keys() and a.quantity.over == "seed" else difference
    return of(x[:, None], y[:, None], np.median if is_median(a.quantity) else iqm, rng=rng)


def _column(row: Measurement) -> NDArray[np.float64]:
    return np.array([row.values[repeat] for repeat in sorted(row.values)])


def _verdict(
    a: Measurement | None, b: Measurement | None, found: tuple[float, Interval | None] | None, tolerance: float
) -> Verdict:
    if a is None or b is None:
        return "only in B" if a is None else "only in A"
    if len(b.values) < b.expected and len(b.values) < len(a.values):
        return "failed"
    if found is None or found[1] is None:
        return "no difference shown"
    change, (low, high) = found[0], found[1]
    is_time = a.quantity.is_time
    none, scale = (1.0, 1.0) if is_time else (0.0, abs(centre(a) or 0.0))
    share = abs(change - none) / scale if scale else math.inf
    if low <= none <= high or share < tolerance:
        return "no difference shown"
    if (change > none) == (a.quantity.better == "higher"):
        return "faster" if is_time else "better"
    return "slower" if is_time else "worse"


def to_json(found: list[Change]) -> list[dict[str, Any]]:
    """Return changes as JSON data."""
    return [asdict(change) for change in found]


def as_text(found: list[Change]) -> str:
    """Return changes as a table for a terminal, what changed first, and a line that counts the verdicts."""
    rows = sorted(found, key=lambda change: change.verdict == "no difference shown")
    lines, at = [], None
    for row in rows:
        if (row.suite, row.task) != at:
            at = (row.suite, row.task)
            lines.append(f"{row.suite}: {row.task}")
        lines.append(_line(row))
    counts = {
        verdict: sum(row.verdict == verdict for row in found) for verdict in dict.fromkeys(r.verdict for r in rows)
    }
    return "\n".join([*lines, ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])


def _line(row: Change) -> str:
    values = " -> ".join("none" if value is None else f"{value:.4g}" for value in (row.a, row.b))
    ends = "" if row.interval is None else " [{:.3g}, {:.3g}]".format(*row.interval)
    change = "" if row.change is None else f"x{row.change:.3g}" if row.is_ratio else f"{row.change:+.3g}"
    seeds = row.seeds[0] if row.seeds[0] == row.seeds[1] else f"{row.seeds[0]} and {row.seeds[1]}"
    unit = f" {row.unit}" if row.unit else ""
    few = ", too few to tell" if row.few and row.verdict != "failed" else ""
    return f"  {row.method:24} {row.quantity}: {values}{unit}   {change}{ends}   {row.verdict} ({seeds}{few})"
