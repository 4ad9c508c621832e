"""Run a suite's cells and summarise them over seeds."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from entroreg.atomic import write_json
from entroreg.benchmarks import provenance
from entroreg.benchmarks.bench_folder import Launch, Preset, held, launches_in
from entroreg.benchmarks.cells import (
    Cell,
    Suite,
    failed_cells,
    failures_as_text,
    gather_results,
    is_done,
    read_result,
)
from entroreg.benchmarks.errors import BAD_PATH, UserError, unknown_name
from entroreg.benchmarks.estimates import centre
from entroreg.benchmarks.local_processes import local_executor
from entroreg.benchmarks.readings import Measurement, measurements
from entroreg.benchmarks.runner import CellOutcome, run_cells
from entroreg.benchmarks.scores import line_of, score_row
from entroreg.benchmarks.selection import Selection, selected, with_seeds
from entroreg.benchmarks.suites import SUITES
from entroreg.benchmarks.time_left import time_left

SUMMARY = "summary.json"
Note = Callable[[str], None]


def load_suite(name: str) -> Suite:
    """Return the suite of a name, or of a module of your own such as ``my_project.my_suite``.

    Raises:
        UserError: there is none; the nearest one is named.
    """
    if "." in name and name.isprintable():
        if os.getcwd() not in sys.path:  # a command has no current folder there, python -m has
            sys.path.insert(0, os.getcwd())
        try:
            own: Suite = importlib.import_module(name)
        except (ImportError, SyntaxError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"suite {name} must be a module that can be imported, got: {error}") from error
        if not (hasattr(own, "cells") and hasattr(own, "run")):
            raise UserError(f"suite {name} must have cells(preset) and run(cell, folder), got a module without")
        return own
    if name not in SUITES:
        raise unknown_name("suite", name, SUITES)
    suite: Suite = importlib.import_module(f"entroreg.benchmarks.suites.{name.replace('-', '_')}")
    return suite


def most_jobs(name: str) -> float:
    """Return how many cells of a suite may run at once: infinity, or what it sets because they slow each other."""
    return float(getattr(load_suite(name), "MOST_JOBS", math.inf))


def cells_of(launch: Launch) -> list[Cell]:
    """Return the cells that a launch is for.

    Raises:
        UserError: unknown suite or preset, a suite without cells, or seeds below 1.
    """
    suite = load_suite(launch.suite)
    try:
        cells = suite.cells(launch.preset)
    except KeyError as error:
        raise UserError(f"suite {launch.suite} has no preset {launch.preset!r}") from error
    if not cells:
        raise UserError(f"suite {launch.suite} must have cells with preset {launch.preset}, got none")
    name = cells[0].suite
    chosen = [Cell(name, launch.preset, task, method, seed) for task, method, seed in launch.chosen]
    if launch.seeds is not None:
        cells = with_seeds(cells, launch.seeds)
    return list(dict.fromkeys([*cells, *chosen] if launch.whole else chosen))


def run_suite(
    name: str,
    preset: Preset,
    jobs: int,
    out: Path,
    note: Note = lambda _text: None,
    *,
    seeds: int | None = None,
    only: Selection | None = None,
    start: Callable[[int], Executor] = local_executor,
) -> dict[str, Any]:
    """Run the cells that are not done and return the summary of all, also written to OUT/SUITE/summary.json.

    Args:
        name: of the suite.
        preset: its size.
        jobs: cells at once.
        out: folder of all runs.
        note: told of each cell as it ends, and first of how long all will take.
        seeds: of each method, the preset's own number if None.
        only: some of the cells; the summary is then of these and of those that were asked for before.
        start: an executor for a number of jobs.

    Returns:
        The summary: where it comes from, all results, and what the suite's own ``summarise`` makes of them, else
        ``summarise``. A suite that draws also leaves OUT/SUITE/summary.png.

    Raises:
        UserError: unknown suite, task or method, jobs below 1 or above what the suite allows, a folder that holds
            another preset or version, that another process writes, or that may not be written.
        OSError: writing failed, such as on a full disk; what is done stays.
    """
    launch = Launch(name, preset, seeds)
    if only is not None:
        asked = selected(cells_of(launch), only)
        launch = replace(launch, whole=False, chosen=tuple((cell.task, cell.method, cell.seed) for cell in asked))
    return run_launch(launch, jobs, out, note, start)


def run_launch(
    launch: Launch,
    jobs: int,
    out: Path,
    note: Note = lambda _text: None,
    start: Callable[[int], Executor] = local_executor,
) -> dict[str, Any]:
    """Run the cells of a launch that are not done; see `run_suite`."""
    suite, most = load_suite(launch.suite), most_jobs(launch.suite)
    if jobs < 1:
        raise UserError(f"jobs must be at least 1, got {jobs}: 1 runs one cell after the other")
    if jobs > most:
        raise UserError(
            f"jobs must be at most {most:.0f} for suite {launch.suite}, got {jobs}: they slow each other"
        )
    asked = cells_of(launch)
    finished = 0

    def told(outcome: CellOutcome) -> None:
        nonlocal finished
        finished += 1
        cell = outcome.cell
        text = f"[{finished}/{len(asked)}] {outcome.status:7} {cell.method} on {cell.task}, seed {cell.seed}"
        note(text if outcome.error is None else f"{text}: {outcome.error} (see {outcome.folder / 'stderr.log'})")

    folder = suite_folder(asked, out)
    # The executor first: where it cannot be had, nothing is written.
    with start(jobs) as executor, _as_user_errors(out), held(folder, launch) as joined:
        note(time_left(launch, asked, out, jobs, len(suite.cells(launch.preset))))
        run_cells(asked, suite.run, out, executor=executor, on_finished=told)
    summary = summarised(joined, out)
    write_json(folder / SUMMARY, summary)
    if hasattr(suite, "plot") and summary["cells"]:
        suite.plot(summary, folder / "summary.png")
    return summary


@contextmanager
def _as_user_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # a folder that holds something else
        raise UserError(str(error)) from error
    except OSError as error:
        if error.errno not in BAD_PATH:
            raise
        raise UserError(f"{out} must be a folder that can be written, got {error}: choose another --out") from error


def suite_folder(cells: list[Cell], out: Path) -> Path:
    """Return the folder of a suite, OUT/SUITE."""
    return cells[0].folder(out).parents[2]


def summarised(launch: Launch, out: Path) -> dict[str, Any]:
    """Return the summary of the cells of a launch, done or not."""
    suite, cells = load_suite(launch.suite), cells_of(launch)
    return {
        "suite": launch.suite,
        "preset": launch.preset,
        "provenance": provenance.collect(),
        "commits": _commits(cells, out),
        **getattr(suite, "summarise", summarise)(cells, out),
    }


def _commits(cells: Iterable[Cell], out: Path) -> dict[str, int]:
    """How many cells were run by each commit."""
    found: Counter[str] = Counter()
    for cell in cells:
        meta = cell.folder(out) / "meta.json"
        if is_done(cell.folder(out)) and meta.exists():
            made = json.loads(meta.read_bytes())
            found[f"{made['commit'] or 'unknown'}{' and changes' if made['dirty'] else ''}"] += 1
    return dict(found)


def summaries_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the summaries of a folder, by name: of suites that ran there, and of files that hold one; ours first.

    Args:
        folder: the --out of ``bench run``, summarised anew; or one with summaries as files, such as the committed
            results.

    Raises:
        UserError: there is none, or one is of another version.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, launch in launches_in(folder).items():
        found[name] = summarised(launch, folder)
    for path in sorted(folder.glob("*.json")):
        summary = _summary_file(path)
        if summary is not None:
            found[path.stem] = summary
    if not found:
        raise UserError(f"{folder} must hold results of 'entroreg bench run', got none: give its --out folder")
    order = {name: index for index, name in enumerate(SUITES)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[1]["suite"], len(order)), item[0])))


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder of summaries: those beside them, and those that suites drew of themselves."""
    return sorted([*folder.glob("*.png"), *folder.glob("*/summary.png")])


def _summary_file(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} must hold JSON, got {error}: move it out of the folder") from error
    return found if isinstance(found, dict) and {"suite", "preset", "cells", "failed"} <= set(found) else None


def summarise(cells: list[Cell], out: Path) -> dict[str, Any]:
    """Return statistics over seeds for each task and method, and what failed.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.

    Returns:
        ``tasks``, if every result has a score: for each task a list of rows with method, done, seeds, iqm, interval
        and scores, and the probability that the task's first method beats the other; ``cells``: every result with
        its task, method and seed; ``failed``: as `failed_cells` has it.
    """
    done = [(cell, read_result(cell.folder(out))) for cell in cells if is_done(cell.folder(out))]
    if any("score" not in result for _, result in done):  # a suite that says what it measured in readings
        return gather_results(cells, out)
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
    own = getattr(load_suite(summary["suite"]), "as_text", None)
    if own is not None:
        return str(own(summary))
    head = f"suite {summary['suite']}, preset {summary['preset']}: IQM over seeds, 95 % bootstrap interval"
    if "tasks" not in summary:
        lines = [_reading_line(row) for row in measurements(load_suite(summary["suite"]), summary)]
    else:
        lines = []
        for task, rows in summary["tasks"].items():
            lines += [task, *(line_of(row) for row in rows)]
    return "\n".join([head, *lines, *failures_as_text(summary["failed"])])


def _reading_line(row: Measurement) -> str:
    value = centre(row)
    shown = "" if value is None else f"   {value:.4g} {row.quantity.unit}".rstrip()
    return f"  {row.task:24} {row.method:24} {row.quantity.name}: {row.count}{shown}"
