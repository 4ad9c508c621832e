"""Packed bags against a loop over bags and against padding; one huge bag whole and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, failures_as_text, gather_results, write_result
from entroreg.benchmarks.mil_speed.measuring import FLOOR, Bags, bag_step, rounds_of
from entroreg.benchmarks.mil_speed.methods import missing_peers
from entroreg.benchmarks.readings import Quantity, Reading, of_rounds

NAME = "mil-speed"
STEP = Quantity("step of ABMIL with AEM", "ms", "lower", "round", is_time=True)
MEMORY = Quantity("memory above the features", "MiB", "lower", "round")
MOST_JOBS = 1  # cells that ran at once would slow each other
BOUNDS = (FLOOR,)  # no rival: the matrix products alone
THREADS = 1
TASKS = {
    "1024x11x166": Bags(1024, 11, 0.3, 166, 64),
    "64x1000x512": Bags(64, 1000, 0.1, 512, 256),
    "32x1000x512-heavy-tailed": Bags(32, 1000, 1.0, 512, 256),
}
HUGE = {"bag-400k": 400_000, "bag-1600k": 1_600_000}
SMOKE = {"32x11x16": Bags(32, 11, 0.3, 16, 16)}
SMOKE_HUGE = {"bag-4k": 4_000}
ROUNDS = {"smoke": 3, "small": 9, "paper": 25}
CHUNK = 4_096
FEATURES, HIDDEN = 512, 256
_WHOLE_UP_TO = 400_000  # instances that are also trained on whole: 1,784 MiB

summarise = gather_results


def cells(preset: str) -> list[Cell]:
    """Return a cell for each size; all methods take turns within it."""
    names = [*SMOKE, *SMOKE_HUGE] if preset == "smoke" else [*TASKS, *HUGE]
    return [Cell(NAME, preset, task, "in-turn", 0) for task in names]


def run(cell: Cell, folder: Path) -> None:
    """Measure all methods on a size and write the result."""
    import torch

    torch.set_num_threads(THREADS)
    huge = {**HUGE, **SMOKE_HUGE}.get(cell.task)
    result = _timed({**TASKS, **SMOKE}[cell.task], ROUNDS[cell.preset]) if huge is None else _streamed(huge)
    write_result(folder, {"threads": THREADS, **result})


def _timed(task: Bags, rounds: int) -> dict[str, Any]:
    seconds, errors = rounds_of(task, rounds)
    ours = np.array(seconds["entroreg"])
    methods = {
        name: {"ms": _spread(1e3 * np.array(turns)), "time_over_entroreg": _spread(np.array(turns) / ours)}
        for name, turns in seconds.items()
    }
    return {"rounds": seconds, "methods": methods, "gradient_difference": errors, "missing": missing_peers()}


def _streamed(instances: int) -> dict[str, Any]:
    bags = {"streamed": bag_step(instances, FEATURES, HIDDEN, CHUNK, THREADS)}
    if instances <= _WHOLE_UP_TO:
        bags["whole"] = bag_step(instances, FEATURES, HIDDEN, None, THREADS)
    return {"instances": instances, "chunk_size": CHUNK, "bags": bags}


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [f"suite {summary['suite']}, preset {summary['preset']}: a step of ABMIL with AEM, methods in turn"]
    for cell in summary["cells"]:
        lines += _lines_of_bag(cell) if "bags" in cell else _lines_of_methods(cell)
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _lines_of_methods(cell: dict[str, Any]) -> list[str]:
    lines = [
        f"{cell['task']}, {cell['threads']} thread, {len(cell['rounds']['entroreg'])} rounds",
        f"  {'method':10}{'ms [min, max]':>28}{'time / ours [min, max]':>26}{'gradient differs by':>22}",
    ]
    for name, row in cell["methods"].items():
        ms = "{median:.1f} [{min:.1f}, {max:.1f}]".format(**row["ms"])
        ratio = "{median:.2f} [{min:.2f}, {max:.2f}]".format(**row["time_over_entroreg"])
        error = cell["gradient_difference"].get(name)
        shown = "-" if error is None else f"{error:.1e}"
        note = "  the matrix products alone" if name == FLOOR else ""
        lines.append(f"  {name:10}{ms:>28}{ratio:>26}{shown:>22}{note}")
    return lines + [f"  {name:10} not installed: {remedy}" for name, remedy in cell["missing"].items()]


def _lines_of_bag(cell: dict[str, Any]) -> list[str]:
    lines = [f"{cell['task']} x {FEATURES}, {cell['threads']} thread, chunks of {cell['chunk_size']}"]
    for name, row in cell["bags"].items():
        lines.append(
            f"  {name:10}{row['extra_mb']:10.0f} MiB above {row['features_mb']:.0f} MiB of features"
            f"{row['seconds']:10.2f} s a step"
        )
    return lines


def _spread(values: Any) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 3),
        "min": round(float(np.min(values)), 3),
        "max": round(float(np.max(values)), 3),
    }


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured, a value of each method for each round."""
    if "bags" in cell:
        return of_rounds(MEMORY, {name: [row["extra_mb"]] for name, row in cell["bags"].items()})
    return of_rounds(STEP, cell["rounds"], 1e3)
