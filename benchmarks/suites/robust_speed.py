"""Time of the adversarial views beside the plain task, and of QARL's iterations, stage by stage, on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, failures_as_text, gather_results, write_result
from entroreg.benchmarks.readings import Quantity, Reading, of_rounds

NAME = "robust-speed"
STEP = Quantity("environment step", "us", "lower", "round", is_time=True)
ITERATION = Quantity("QARL's iteration", "s", "lower", "round", is_time=True)
MOST_JOBS = 1  # cells that ran at once would slow each other
BOUNDS = ("plain", "opponent")  # no rivals: the task without a second player, and that player alone
VIEWS = ("InvertedPendulum-v5", "HalfCheetah-v5", "Hopper-v5", "Ant-v5", "dm_control/cartpole-swingup-v0")
NETS: dict[str, tuple[int, ...]] = {"64x64": (64, 64), "256x256x256": (256, 256, 256)}
_STAGED = "HalfCheetah-v5"
ROUNDS = {"smoke": 3, "small": 15, "paper": 31}
STEPS = {"smoke": 200, "small": 4_000, "paper": 10_000}
ITERATIONS = {"smoke": 1, "small": 4, "paper": 10}
EPISODE_STEPS = {"smoke": 40, "small": 500, "paper": 500}

summarise = gather_results


def cells(preset: str) -> list[Cell]:
    """Return a cell for each task's views, and for each size and engine of QARL's players."""
    if preset == "smoke":
        return [Cell(NAME, preset, VIEWS[0], "views", 0), Cell(NAME, preset, f"{_STAGED} 64x64", "qarl-eager", 0)]
    views = [Cell(NAME, preset, task, "views", 0) for task in VIEWS]
    return views + [
        Cell(NAME, preset, f"{_STAGED} {net}", f"qarl-{engine}", 0)
        for net in NETS
        for engine in ("compiled", "eager")
    ]


def run(cell: Cell, folder: Path) -> None:
    """Measure one cell and write the result."""
    import torch

    from entroreg.benchmarks.robust.speed import stage_rows, view_rounds

    torch.set_num_threads(1)
    if cell.method == "views":
        rounds = view_rounds(cell.task, ROUNDS[cell.preset], STEPS[cell.preset])
        write_result(folder, {"method": "views", "rounds": rounds, **view_numbers(rounds)})
        return
    task, net = cell.task.split(" ")
    engine = cell.method.removeprefix("qarl-")
    rows = stage_rows(task, NETS[net], engine, ITERATIONS[cell.preset], EPISODE_STEPS[cell.preset])
    medians = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
    write_result(folder, {"method": cell.method, "rows": rows, "medians": medians})


def view_numbers(rounds: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians in microseconds, and steps per second over the plain task's with the spread over rounds."""
    plain = np.array(rounds["plain"])
    ratios = {name: plain / np.array(rounds[name]) for name in ("protagonist", "adversary")}
    return {
        "step_us": {name: float(np.median(values)) for name, values in rounds.items()},
        "speed_over_plain": {
            name: [float(value) for value in np.quantile(found, [0.25, 0.5, 0.75])]
            for name, found in ratios.items()
        },
    }


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [
        f"suite {summary['suite']}, preset {summary['preset']}: one thread; steps per second over the plain task"
    ]
    for cell in summary["cells"]:
        lines.append(_views_line(cell) if cell["method"] == "views" else _stages_line(cell))
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _views_line(cell: dict[str, Any]) -> str:
    found = [
        f"{name} {middle:.2f} [{low:.2f}, {high:.2f}]"
        for name, (low, middle, high) in cell["speed_over_plain"].items()
    ]
    step = cell["step_us"]
    own = f"{step['plain']:6.1f} us, an opponent's forward {step['opponent']:.1f} us"
    return f"  {cell['task']:32} {own}; {', '.join(found)}"


def _stages_line(cell: dict[str, Any]) -> str:
    found = cell["medians"]
    parts = []
    for name in ("adversary", "protagonist"):
        whole, update = found[f"{name}_seconds"], found[f"{name}_update_seconds"]
        parts.append(f"{name} {whole:.2f} s ({update:.2f} updating, {found[f'{name}_steps']:.0f} steps)")
    parts.append(f"curriculum {1e3 * found['curriculum_seconds']:.2f} ms")
    return f"  {cell['task']:28} {cell['method']:14} {', '.join(parts)}"


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured, a value of each method for each round."""
    if cell["method"] == "views":
        return of_rounds(STEP, cell["rounds"])
    both = [row["adversary_seconds"] + row["protagonist_seconds"] for row in cell["rows"]]
    return of_rounds(ITERATION, {cell["method"]: both})
