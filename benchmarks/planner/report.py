"""What the episodes of the suite adaptation say: success, collisions, and whether uncertainty tells failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, rankdata

from entroreg.benchmarks.cells import Cell, failures_as_text, gather_results

PLAIN = "none"
_RESAMPLES = 2000


def summarise(cells: list[Cell], out: Path) -> dict[str, Any]:
    """Return all episodes, and for each task and method rates with intervals, differences and AUROC.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.
    """
    found = gather_results(cells, out)
    tasks: dict[str, list[dict[str, Any]]] = {}
    for task, method in dict.fromkeys((cell.task, cell.method) for cell in cells):
        rows = [row for row in found["cells"] if (row["task"], row["method"]) == (task, method)]
        plain = [row for row in found["cells"] if (row["task"], row["method"]) == (task, PLAIN)]
        if rows:
            seeds = len({cell.seed for cell in cells})
            tasks.setdefault(task, []).append({"seeds": seeds, **method_row(method, rows, plain)})
    return {**found, "tasks": tasks}


def method_row(
    method: str, rows: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return one method's figures on one task, over the episodes of all seeds.

    Args:
        method: its name.
        rows: results of its cells.
        plain: results of the cells without adaptation, whose episodes are on the same maps.
    """
    success = _column(rows, "success")
    uncertainty = [name for name in rows[0]["uncertainty"] if measure_of(method) in (PLAIN, name)]
    return {
        "method": method,
        "done": len(rows),
        "episodes": len(success),
        "success": _rate(success),
        "collision": _rate(_column(rows, "collision")),
        "difference": paired_difference(rows, plain),
        "auroc": {name: failure_auroc(_column(rows, "uncertainty", name), success) for name in uncertainty},
        "decision_ms": float(np.median([row["decision_ms"] for row in rows])),
    }


def measure_of(method: str) -> str:
    """Return the measure that a method adapts by: its name up to the first hyphen."""
    return method.partition("-")[0]


def paired_difference(rows: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the difference in success from no adaptation on the same maps, with a 95 % bootstrap interval.

    Args:
        rows: results of a method's cells.
        plain: those without adaptation; cells pair by their seed.
    """
    by_seed = {row["seed"]: row for row in plain}
    pairs = [(row, by_seed[row["seed"]]) for row in rows if row["seed"] in by_seed]
    if not pairs:
        return {"episodes": 0, "mean": None, "interval": None}
    ours, theirs = (_column(side, "success") for side in zip(*pairs, strict=True))
    changes = np.subtract(ours, theirs, dtype=float)
    draws = np.random.default_rng(0).integers(len(changes), size=(_RESAMPLES, len(changes)))
    low, high = np.quantile(changes[draws].mean(axis=1), [0.025, 0.975])
    return {"episodes": len(changes), "mean": float(changes.mean()), "interval": [float(low), float(high)]}


def failure_auroc(uncertainty: Sequence[float], success: Sequence[bool]) -> float | None:
    """Return the probability that a failed episode was more uncertain than a successful one; None without both.

    Args:
        uncertainty: of each episode.
        success: of each episode.
    """
    failed = ~np.asarray(success, dtype=bool)
    positives, negatives = int(failed.sum()), int((~failed).sum())
    if not positives or not negatives:
        return None
    ranks = rankdata(uncertainty)
    return float((ranks[failed].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _rate(outcomes: Sequence[bool]) -> dict[str, Any]:
    interval = binomtest(int(np.sum(outcomes)), len(outcomes)).proportion_ci(method="wilson")
    return {"rate": float(np.mean(outcomes)), "interval": [float(interval.low), float(interval.high)]}


def _column(rows: Sequence[Mapping[str, Any]], *path: str) -> list[Any]:
    values: list[Any] = []
    for row in rows:
        column: Any = row
        for key in path:
            column = column[key]
        values += column
    return values


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [
        f"suite {summary['suite']}, preset {summary['preset']}: a planner in closed loop, adapted at each frame",
        "rates over all episodes [Wilson 95 %]; d: success less that without adaptation on the same maps "
        "[bootstrap 95 %]",
    ]
    for task, rows in summary["tasks"].items():
        lines.append(
            f"{task:18}{'episodes':>9}{'success':>22}{'collision':>22}{'d success':>26}{'ms':>7}  AUROC of failure"
        )
        for row in rows:
            change = row["difference"]
            ends = "-" if change["mean"] is None or row["method"] == PLAIN else _signed(change)
            auroc = ", ".join(f"{name} {_number(value)}" for name, value in row["auroc"].items())
            lines.append(
                f"  {row['method']:16}{row['episodes']:9}{_interval(row['success']):>22}"
                f"{_interval(row['collision']):>22}{ends:>26}{row['decision_ms']:7.2f}  {auroc}"
            )
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _interval(rate: Mapping[str, Any]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(rate["rate"], *rate["interval"])


def _signed(change: Mapping[str, Any]) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(change["mean"], *change["interval"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def plot(summary: dict[str, Any], picture: Path) -> None:
    """Draw success by task and method, and how well uncertainty without adaptation tells failures.

    Args:
        summary: of the suite.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(11, 4), layout="constrained")
    rates, areas = figure.subplots(1, 2, width_ratios=[2, 1])
    tasks = summary["tasks"]
    methods = list(dict.fromkeys(row["method"] for rows in tasks.values() for row in rows))
    for place, method in enumerate(methods):
        found = [(x, row) for x, rows in enumerate(tasks.values()) for row in rows if row["method"] == method]
        x = [x + 0.18 * (place - (len(methods) - 1) / 2) for x, _ in found]
        y = np.array([row["success"]["rate"] for _, row in found])
        ends = np.array([row["success"]["interval"] for _, row in found]).T
        rates.errorbar(x, y, yerr=np.abs(ends - y), fmt="o", capsize=3, label=method)
    rates.set(xticks=range(len(tasks)), xticklabels=list(tasks), ylabel="success", ylim=(0, 1.02))
    plain = {task: row["auroc"] for task, rows in tasks.items() for row in rows if row["method"] == PLAIN}
    for name in next(iter(plain.values()), {}):
        areas.plot([row[name] if row[name] is not None else np.nan for row in plain.values()], "o-", label=name)
    areas.axhline(0.5, color="grey", lw=0.8)
    areas.set(xticks=range(len(plain)), xticklabels=list(plain), ylabel="AUROC of failure, no adaptation")
    for axes in (rates, areas):
        axes.tick_params(axis="x", rotation=20)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(picture, dpi=90)
