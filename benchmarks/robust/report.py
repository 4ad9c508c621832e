"""What is made of the suite's results: statistics of each measure, heat maps side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, failed_cells, failures_as_text, is_done, read_result
from entroreg.benchmarks.robust.heatmap import draw_grids
from entroreg.benchmarks.robust.measuring import MEASURES
from entroreg.benchmarks.scores import line_of, score_row

FIRST = "qarl"  # what the others are compared with


def summarise(cells: Sequence[Cell], out: Path) -> dict[str, Any]:
    """Return statistics over seeds of each measure, for each task and method.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.

    Returns:
        ``tasks``: task -> measure -> rows as in other suites, with QARL first; ``cells``: every result; ``failed``:
        folders of the cells without a result.
    """
    done = [(cell, read_result(cell.folder(out))) for cell in cells if is_done(cell.folder(out))]
    tasks: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for task in dict.fromkeys(cell.task for cell in cells):
        methods = sorted(
            {cell.method for cell in cells if cell.task == task}, key=lambda name: (name != FIRST, name)
        )
        seeds = {name: sum((c.task, c.method) == (task, name) for c in cells) for name in methods}
        for measure in MEASURES:
            rows: list[dict[str, Any]] = []
            for method in methods:
                scores = [float(r[measure]) for c, r in done if (c.task, c.method) == (task, method)]
                rows.append(score_row(method, scores, seeds[method], rows[0]["scores"] if rows else None))
            tasks.setdefault(task, {})[measure] = rows
    return {
        "tasks": tasks,
        "cells": [{**result, "task": cell.task, "method": cell.method, "seed": cell.seed} for cell, result in done],
        "failed": failed_cells(cells, out),
    }


def as_text(summary: Mapping[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [f"suite robust, preset {summary['preset']}: IQM over seeds, 95 % bootstrap interval; first is {FIRST}"]
    for task, measures in summary["tasks"].items():
        for measure, rows in measures.items():
            lines.append(f"{task}: {measure.replace('_', ' ')}")
            lines += [line_of(row) for row in rows]
        moved = [c for c in summary["cells"] if c["task"] == task and c["curriculum"]]
        lines += [_curriculum_line(cell) for cell in moved if "shape" in cell["curriculum"][-1]]
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _curriculum_line(cell: Mapping[str, Any]) -> str:
    steps = cell["curriculum"]
    held = sum(step["held_back"] for step in steps)
    name = f"{cell['method']} seed {cell['seed']}"
    return f"  {name}: k {steps[-1]['shape']:.2f} after {len(steps)} steps of the curriculum, {held:.0f} held back"


def plot(summary: Mapping[str, Any], picture: Path) -> None:
    """Draw the heat maps, means over seeds: a row for each task, a panel for each method."""
    rows = []
    for task in summary["tasks"]:
        of_task = [cell for cell in summary["cells"] if cell["task"] == task]
        methods = dict.fromkeys(cell["method"] for cell in of_task)
        rows.append({f"{name}\n{task.rpartition('/')[2]}": _mean_grid(of_task, name) for name in methods})
    draw_grids([row for row in rows if row], picture)


def _mean_grid(cells: Sequence[Mapping[str, Any]], method: str) -> dict[str, Any]:
    grids = [cell["grid"] for cell in cells if cell["method"] == method]
    returns = np.mean([grid["returns"] for grid in grids], axis=0)
    means = {name: float(np.mean([grid[name] for grid in grids])) for name in ("nominal", "mean")}
    return {**grids[0], **means, "returns": returns.tolist(), "worst": float(returns.min())}
