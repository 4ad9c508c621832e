"""Run a suite's cells and summarise them over seeds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entroreg.atomic import write_json
from entroreg.benchmarks import provenance
from entroreg.benchmarks.cells import Cell, Suite, failed_cells, failures_as_text, is_done, read_result
from entroreg.benchmarks.errors import UserError, unknown_name
from entroreg.benchmarks.runner import CellOutcome, local_executor, run_cells
from entroreg.benchmarks.scores import line_of, score_row
from entroreg.benchmarks.suites import SUITES


def load_suite(name: str) -> Suite:
    """Return the suite of a name.

    Raises:
        UserError: there is none; the nearest one is named.
    """
    if name not in SUITES:
        raise unknown_name("suite", name, SUITES)
    suite: Suite = importlib.import_module(f"entroreg.benchmarks.suites.{name.replace('-', '_')}")
    return suite


def run_suite(
    name: str, preset: str, jobs: int, out: Path, note: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Run the cells that are not done and return the summary of all, also written to OUT/SUITE/summary.json.

    Args:
        name: of the suite.
        preset: its size.
        jobs: cells at once.
        out: folder of all runs.
        note: told of each cell as it ends.

    Returns:
        The summary: where it comes from, all results, and what the suite's own ``summarise`` makes of them, else
        ``summarise``. A suite that draws also leaves OUT/SUITE/summary.png.

    Raises:
        UserError: unknown suite, jobs below 1 or above what the suite allows, or a folder that holds another preset
            or cannot be written.
    """
    suite = load_suite(name)
    most = getattr(suite, "MOST_JOBS", jobs)
    if jobs > most:
        raise UserError(f"jobs must be at most {most} for suite {name}, got {jobs}: they slow each other")
    cells = suite.cells(preset)
    finished = 0

    def told(outcome: CellOutcome) -> None:
        nonlocal finished
        finished += 1
        cell = outcome.cell
        text = f"[{finished}/{len(cells)}] {outcome.status:7} {cell.method} on {cell.task}, seed {cell.seed}"
        note(text if outcome.error is None else f"{text}: {outcome.error} (see {outcome.folder / 'stderr.log'})")

    try:
        with local_executor(jobs) as executor:
            run_cells(cells, suite.run, out, executor=executor, on_finished=told)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    found = getattr(suite, "summarise", summarise)(cells, out)
    summary = {"suite": name, "preset": preset, "provenance": provenance.collect(), **found}
    write_json(out / name / "summary.json", summary)
    if hasattr(suite, "plot") and summary["cells"]:
        suite.plot(summary, out / name / "summary.png")
    return summary


def summarise(cells: list[Cell], out: Path) -> dict[str, Any]:
    """Return statistics over seeds for each task and method, and what failed.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.

    Returns:
        ``tasks``: for each task a list of rows with method, done, seeds, iqm, interval and scores, and the
        probability that the task's first method beats the other; ``cells``: every result with its task, method and
        seed; ``failed``: folders of the cells without a result.
    """
    done = [(cell, read_result(cell.folder(out))) for cell in cells if is_done(cell.folder(out))]
    tasks: dict[str, list[dict[str, Any]]] = {}
    for task, method in dict.fromkeys((cell.task, cell.method) for cell in cells):
        seeds = sum((cell.task, cell.method) == (task, method) for cell in cells)
        results = [result for cell, result in done if (cell.task, cell.method) == (task, method)]
        rows = tasks.setdefault(task, [])
        row = score_row(
            method, [float(result["score"]) for result in results], seeds, rows[0]["scores"] if rows else None
        )
        alphas = [result["alpha"] for result in results if result.get("alpha")]
        if alphas:
            row["alpha"] = [min(a["min"] for a in alphas), max(a["max"] for a in alphas)]
        rows.append(row)
    return {
        "tasks": tasks,
        "cells": [{**result, "task": cell.task, "method": cell.method, "seed": cell.seed} for cell, result in done],
        "failed": failed_cells(cells, out),
    }


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal, in the suite's own form where it has one."""
    own = getattr(load_suite(summary["suite"]), "as_text", None) if summary["suite"] in SUITES else None
    return _scores_as_text(summary) if own is None else str(own(summary))


def _scores_as_text(summary: dict[str, Any]) -> str:
    lines = [f"suite {summary['suite']}, preset {summary['preset']}: IQM over seeds, 95 % bootstrap interval"]
    for task, rows in summary["tasks"].items():
        lines.append(task)
        lines += [line_of(row) for row in rows]
    return "\n".join(lines + failures_as_text(summary["failed"]))
