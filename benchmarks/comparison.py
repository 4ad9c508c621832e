"""What changed between two runs of the same suites: better, worse, or no difference shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from entroreg.benchmarks.bench import load_suite
from entroreg.benchmarks.differences import Difference, difference, paired_difference
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.readings import Measurement, measurements
from entroreg.benchmarks.statistics import Interval, iqm

__all__ = ["Change", "as_text", "changes", "is_regression", "to_json"]

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
    a: float | None
    """IQM over the seeds of A, of a time the median; None if it has none."""
    b: float | None
    """The same of B."""
    seeds: tuple[str, str]
    """How many seeds or rounds of those asked for each run has, such as ``4 of 5 seeds``."""
    change: float | None
    """B minus A, or for a time the ratio B / A."""
    interval: Interval | None
    """Of the change, 95 %; None where a run has fewer than two seeds."""
    verdict: Verdict
    """A change is shown where the interval leaves out none and the change is above the tolerance."""


def changes(
    a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]], tolerance: float = 0.0
) -> list[Change]:
    """Return what changed from run A to run B, in the order of A.

    Scores of the same seed are compared in pairs. Of many comparisons one in twenty shows a change that is none.

    Args:
        a: summaries by name, as ``bench.summaries_in`` returns them.
        b: those of the other run.
        tolerance: share of A's value below which a change is not shown, from 0.

    Raises:
        UserError: the runs have no suite with the same preset in common, or the tolerance is negative.
    """
    if tolerance < 0:
        raise UserError(f"tolerance must be at least 0, got {tolerance}")
    rows_a, rows_b = _rows(a), _rows(b)
    if not {key[0] for key in rows_a} & {key[0] for key in rows_b}:
        got = f"{_names(a)} and {_names(b)}"
        raise UserError(f"both runs must have a suite with the same preset, got {got}: run one of them in both")
    shared = {key[0] for key in rows_a} & {key[0] for key in rows_b}
    keys = [key for key in dict.fromkeys([*rows_a, *rows_b]) if key[0] in shared]
    return [_change(key, rows_a.get(key), rows_b.get(key), tolerance) for key in keys]


def is_regression(change: Change) -> bool:
    """Whether a change is for the worse; a method that B no longer finishes is one too."""
    return change.verdict in ("worse", "slower", "failed", "only in A")


_Key = tuple[tuple[str, str], str, str, str]  # (suite, preset), task, method, quantity


def _rows(summaries: Mapping[str, Mapping[str, Any]]) -> dict[_Key, Measurement]:
    return {
        ((summary["suite"], summary["preset"]), row.task, row.method, row.quantity.name): row
        for summary in summaries.values()
        for row in measurements(load_suite(summary["suite"]), summary)
    }


def _names(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(f"{summary['suite']} ({summary['preset']})" for summary in summaries.values())


def _change(key: _Key, a: Measurement | None, b: Measurement | None, tolerance: float) -> Change:
    (suite, _), task, method, _ = key
    quantity = (a or b).quantity  # type: ignore[union-attr]  # one of them is there
    found = None if a is None or b is None or not a.values or not b.values else _difference(a, b)
    return Change(
        suite=suite,
        task=task,
        method=method,
        quantity=quantity.name,
        unit=quantity.unit,
        a=_middle(a),
        b=_middle(b),
        seeds=tuple("none" if row is None else row.count for row in (a, b)),  # type: ignore[arg-type]
        change=None if found is None else found.difference,
        interval=None if found is None else found.interval,
        verdict=_verdict(a, b, found, tolerance),
    )


def _middle(row: Measurement | None) -> float | None:
    if row is None or not row.values:
        return None
    values = np.array(list(row.values.values()))
    return float(np.median(values)) if row.quantity.is_time else iqm(values)


def _difference(a: Measurement, b: Measurement) -> Difference:
    """B minus A, or of times B over A."""
    rng = np.random.default_rng(0)
    if a.quantity.is_time:  # rounds of one run are not those of another
        of_logs = difference(np.log(_column(b)), np.log(_column(a)), np.median, rng=rng)
        low_high = of_logs.interval
        ends = None if low_high is None else Interval(math.exp(low_high.low), math.exp(low_high.high))
        return Difference(math.exp(of_logs.difference), ends)
    if a.values.keys() == b.values.keys():
        return paired_difference(_column(b), _column(a), rng=rng)
    return difference(_column(b), _column(a), rng=rng)


def _column(row: Measurement) -> NDArray[np.float64]:
    return np.array([[row.values[repeat]] for repeat in sorted(row.values)])


def _verdict(a: Measurement | None, b: Measurement | None, found: Difference | None, tolerance: float) -> Verdict:
    if a is None or b is None:
        return "only in B" if a is None else "only in A"
    if len(b.values) < b.expected and len(b.values) < len(a.values):
        return "failed"
    if found is None or found.interval is None:
        return "no difference shown"
    is_time, before = a.quantity.is_time, _middle(a)
    none = 1.0 if is_time else 0.0
    scale = 1.0 if is_time else abs(before or 0.0)
    share = abs(found.difference - none) / scale if scale else math.inf
    if found.interval.low <= none <= found.interval.high or share < tolerance:
        return "no difference shown"
    if (found.difference > none) == (a.quantity.better == "higher"):
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
    sign = "x" if row.verdict in ("faster", "slower") else ""
    change = "" if row.change is None else f"{row.change:+.3g}" if not sign else f"{row.change:.3g}"
    seeds = row.seeds[0] if row.seeds[0] == row.seeds[1] else f"{row.seeds[0]} and {row.seeds[1]}"
    unit = f" {row.unit}" if row.unit else ""
    return f"  {row.method:24} {row.quantity}: {values}{unit}   {sign}{change}{ends}   {row.verdict} ({seeds})"
