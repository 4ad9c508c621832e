"""What the runner costs: time of a cell that does nothing, beside the start of a process and of an interpreter."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from entroreg.benchmarks.cells import Cell, failures_as_text, gather_results, write_result
from entroreg.benchmarks.readings import Quantity, Reading, of_rounds

NAME = "overhead"
MOST_JOBS = 1  # cells that ran at once would slow each other
CELL, PROCESS, INTERPRETER, HELP = "cell", "spawned process", "python -c pass", "entroreg --help"
BOUNDS = (PROCESS, INTERPRETER, HELP)  # no rivals: what a cell cannot do without, and the command's own start
TIME = Quantity("one of it", "ms", "lower", "round", is_time=True)
CELLS = {"smoke": 4, "small": 100, "paper": 100}
ROUNDS = {"smoke": 2, "small": 7, "paper": 15}
_STARTS = 10  # of each other kind, in each round

summarise = gather_results


def cells(preset: str) -> list[Cell]:
    """Return the one cell: all kinds take turns within it."""
    return [Cell(NAME, preset, f"{CELLS[preset]} trivial cells", "in-turn", 0)]


def run(cell: Cell, folder: Path) -> None:
    """Time all kinds in turn and write the result."""
    number = CELLS[cell.preset]
    others: dict[str, Callable[[], None]] = {PROCESS: _spawn, INTERPRETER: _interpreter, HELP: _help}
    for start in others.values():
        start()  # the first reads files that are in memory afterwards
    rounds: dict[str, list[float]] = {name: [] for name in (CELL, *others)}
    for _ in range(ROUNDS[cell.preset]):
        rounds[CELL].append(_seconds_of_cells(number) / number)
        for name, start in others.items():
            began = time.perf_counter()
            for _ in range(_STARTS):
                start()
            rounds[name].append((time.perf_counter() - began) / _STARTS)
    write_result(folder, {"cells": number, "starts": _STARTS, "rounds": rounds})


def trivial(_cell: Cell, folder: Path) -> None:
    """Write an empty result."""
    write_result(folder, {})


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured, a value of each kind for each round."""
    return of_rounds(TIME, cell["rounds"], 1e3)


def as_text(summary: Mapping[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    import numpy as np  # here: a trivial cell shall not pay for it

    lines = [f"suite overhead, preset {summary['preset']}: one after the other, ms of each, median [min, max]"]
    for cell in summary["cells"]:
        lines.append(f"{cell['task']}, {len(cell['rounds'][CELL])} rounds")
        for name, turns in cell["rounds"].items():
            ms = 1e3 * np.array(turns)
            lines.append(f"  {name:16}{np.median(ms):8.1f} [{ms.min():.1f}, {ms.max():.1f}]")
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _seconds_of_cells(number: int) -> float:
    from entroreg.benchmarks.local_processes import local_executor
    from entroreg.benchmarks.runner import run_cells

    trivials = [Cell(NAME, "trivial", "nothing", "trivial", seed) for seed in range(number)]
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        with local_executor(1) as executor:
            outcomes = run_cells(trivials, trivial, Path(out), executor=executor)
        seconds = time.perf_counter() - began
    failed = [outcome.error for outcome in outcomes if outcome.status != "done"]
    if failed:
        raise RuntimeError(f"trivial cells must be done, got {failed[0]}")
    return seconds


def _spawn() -> None:
    process = multiprocessing.get_context("spawn").Process(target=len, args=((),))
    process.start()
    process.join()


def _interpreter() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def _help() -> None:
    code = "import sys; from entroreg.benchmarks.cli import main; sys.exit(main(['--help']))"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
