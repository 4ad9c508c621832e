"""The numbers of a report, as results.json has them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

from entroreg.benchmarks.bench import load_suite
from entroreg.benchmarks.estimates import best_first, estimate, is_median
from entroreg.benchmarks.readings import Measurement, measurements
from entroreg.benchmarks.report_page.comparisons import compare
from entroreg.benchmarks.suites import SUITES

__all__ = ["FORMAT", "command_of", "results_of"]

FORMAT = 1

Summary = Mapping[str, Any]


def results_of(summaries: Sequence[Summary], titles: Sequence[str] | None = None) -> dict[str, Any]:
    """Return all numbers of a report; the same for the same summaries.

    Args:
        summaries: as ``bench.run_suite`` returns them; a suite may have several.
        titles: what each is called, such as its file; the suites' names if None, numbered where one repeats.

    Returns:
        What results.schema.json describes.

    Raises:
        UserError: a suite is unknown.
        ValueError: there are more or fewer titles than summaries.
    """
    if titles is not None and len(titles) != len(summaries):
        raise ValueError(f"titles must be one for each of {len(summaries)} summaries, got {len(titles)}")
    names = _numbered([summary["suite"] for summary in summaries]) if titles is None else titles
    return {
        "format": FORMAT,
        "suites": [_suite(summary, title) for summary, title in zip(summaries, names, strict=True)],
    }


def command_of(suite: str, preset: str, task: str, method: str | None, seed: int | None) -> str:
    """Return the command that runs a cell again; what None stands for is not named.

    Example:
        >>> command_of("robust-speed", "small", "Ant-v5 64x64", "views", 0)
        "entroreg bench run robust-speed --preset small --task 'Ant-v5 64x64' --method views --seed 0"
    """
    words = ["entroreg", "bench", "run", suite, "--preset", preset, "--task", task]
    words += [] if method is None else ["--method", method]
    words += [] if seed is None else ["--seed", str(seed)]
    return shlex.join(words)


def _suite(summary: Summary, title: str) -> dict[str, Any]:
    module = load_suite(summary["suite"])
    found = measurements(module, summary)
    bounds = getattr(module, "BOUNDS", ())  # measured as methods are, such as the products alone, but no rivals
    provenance = summary["provenance"]
    commits = {provenance.get("commit")} | {cell.get("commit") for cell in summary["cells"]}
    return {
        "suite": summary["suite"],
        "title": title,
        "description": _description(summary["suite"]),
        "preset": summary["preset"],
        "provenance": provenance,
        "commits": sorted(commit for commit in commits if isinstance(commit, str)),
        "measurements": [_measurement(one) for one in found],
        "comparisons": [
            _comparison(list(group), summary, bounds)
            for _, group in groupby(found, key=lambda one: (one.task, one.quantity))
        ],
        "cells": _cells(summary),
    }


def _measurement(one: Measurement) -> dict[str, Any]:
    quantity, its = one.quantity, estimate(one)
    return {
        "task": one.task,
        "method": one.method,
        "quantity": {
            "name": quantity.name,
            "unit": quantity.unit,
            "better": quantity.better,
            "over": quantity.over,
            "is_time": quantity.is_time,
        },
        "values": {str(key): value for key, value in sorted(one.values.items())},
        "expected": one.expected,
        "done": len(one.values),
        "statistic": "median" if is_median(quantity) else "iqm",
        "value": None if its is None else its.value,
        "interval": None if its is None or its.interval is None else list(its.interval),
    }


def _comparison(found: list[Measurement], summary: Summary, bounds: Collection[str]) -> dict[str, Any]:
    """Return the best method of a task and quantity against each other one, the best of those first."""
    ranked = best_first([one for one in found if one.method not in bounds] or found)
    best, others = ranked[0], [one for one in ranked[1:] if one.values]
    # A method with cells of its own did not take turns with others.
    own = {cell.get("method") for cell in summary["cells"] if cell["task"] == best.task}
    return {
        "task": best.task,
        "quantity": best.quantity.name,
        "best": best.method if best.values else None,
        "others": [compare(best, one, not {best.method, one.method} & own) for one in others],
        "bounds": [one.method for one in found if one not in ranked],
        "without_result": [one.method for one in ranked if not one.values],
    }


def _cells(summary: Summary) -> list[dict[str, Any]]:
    rows = [(cell, "done", None) for cell in summary["cells"]]
    for cell in summary["failed"]:
        error = cell.get("error")
        rows.append((cell, "missing" if error is None else "failed", error))
    return [
        {
            "task": cell["task"],
            "method": cell.get("method"),
            "seed": cell.get("seed"),
            "status": status,
            "error": error,
            "command": command_of(
                summary["suite"], summary["preset"], cell["task"], cell.get("method"), cell.get("seed")
            ),
        }
        for cell, status, error in rows
    ]


def _numbered(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered


def _description(suite: str) -> str:
    """Return what a suite says of itself; one that is not ours does so in its module's first line."""
    own = (getattr(load_suite(suite), "__doc__", None) or suite).strip()
    return SUITES.get(suite, own.partition("\n")[0])
