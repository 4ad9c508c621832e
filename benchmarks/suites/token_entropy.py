"""Log-probability and entropy of tokens: time, memory and error beside TRL and verl where they are installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, failures_as_text, gather_results, write_result
from entroreg.benchmarks.readings import Quantity, Reading, of_rounds
from entroreg.benchmarks.token_entropy.measuring import Task, largest_errors, peak_megabytes, rounds_of
from entroreg.benchmarks.token_entropy.methods import missing_peers

NAME = "token-entropy"
BOTH = Quantity("forward and backward", "ms", "lower", "round", is_time=True)
FORWARD = Quantity("forward", "ms", "lower", "round", is_time=True)
MOST_JOBS = 1  # cells that ran at once would slow each other
THREADS = 2
_SHAPES = {"2048x50k": (2048, 50_000), "512x152k": (512, 152_000)}
TASKS = {
    **{
        f"{name}-{dtype}": Task(*shape, dtype)
        for name, shape in _SHAPES.items()
        for dtype in ("float32", "bfloat16")
    },
    **{f"fused-{name}x896-float32": Task(*shape, "float32", hidden=896) for name, shape in _SHAPES.items()},
}
SMOKE = {
    "64x1k-float32": Task(64, 1_000, "float32"),
    "fused-64x1kx32-float32": Task(64, 1_000, "float32", hidden=32),
}
ROUNDS = {"smoke": 3, "small": 7, "paper": 21}

summarise = gather_results


def cells(preset: str) -> list[Cell]:
    """Return a cell for each size; all methods take turns within it."""
    return [Cell(NAME, preset, task, "in-turn", 0) for task in (SMOKE if preset == "smoke" else TASKS)]


def run(cell: Cell, folder: Path) -> None:
    """Measure all methods on a size and write the result."""
    import torch

    torch.set_num_threads(THREADS)
    task = {**TASKS, **SMOKE}[cell.task]
    rounds = rounds_of(task, ROUNDS[cell.preset])
    errors = largest_errors(task)
    ours = np.array([turn["both"] for turn in rounds["entroreg"]])
    methods: dict[str, Any] = {}
    for name, turns in rounds.items():
        both = np.array([turn["both"] for turn in turns])
        methods[name] = {
            "forward_ms": _spread([1e3 * turn["forward"] for turn in turns]),
            "both_ms": _spread(1e3 * both),
            "time_over_entroreg": _spread(both / ours),
            "extra_mb": round(peak_megabytes(task, name, THREADS), 1),
            "largest_error": errors[name],
        }
    write_result(folder, {"threads": THREADS, "rounds": rounds, "methods": methods, "missing": missing_peers()})


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [f"suite {summary['suite']}, preset {summary['preset']}: log-probability and entropy, methods in turn"]
    for cell in summary["cells"]:
        lines.append(f"{cell['task']}, {cell['threads']} threads, {len(cell['rounds']['entroreg'])} rounds")
        lines.append(
            f"  {'method':10}{'forward ms':>12}{'forward + backward ms [min, max]':>36}{'time / ours':>14}"
            f"{'extra MB':>10}{'error':>10}"
        )
        for name, row in sorted(cell["methods"].items(), key=lambda item: item[0] != "entroreg"):
            both = row["both_ms"]
            interval = f"{both['median']:.1f} [{both['min']:.1f}, {both['max']:.1f}]"
            lines.append(
                f"  {name:10}{row['forward_ms']['median']:12.1f}{interval:>36}"
                f"{row['time_over_entroreg']['median']:14.2f}{row['extra_mb']:10.0f}{row['largest_error']:10.1e}"
            )
        lines += [f"  {name:10} not installed: {remedy}" for name, remedy in cell["missing"].items()]
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _spread(values: Any) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 3),
        "min": round(float(np.min(values)), 3),
        "max": round(float(np.max(values)), 3),
    }


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured, a value of each method for each round."""
    rounds = cell["rounds"]
    both = {name: [turn["both"] for turn in turns] for name, turns in rounds.items()}
    forward = {name: [turn["forward"] for turn in turns] for name, turns in rounds.items()}
    return of_rounds(BOTH, both, 1e3) + of_rounds(FORWARD, forward, 1e3)
