"""Robustness of policies that were trained plainly, against an adversary, or in worlds drawn at random."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.readings import Curve, Quantity, Reading, of_seed
from entroreg.benchmarks.robust import report
from entroreg.benchmarks.robust.measuring import MEASURES

NAME = "robust"
SEEDS = {"smoke": 1, "small": 5, "paper": 5}
SHARED = ("sac", "rarl", "qarl", "domain-randomisation")
RIVALS = ("mixed-nash", "action-attack", "worst-parameters")
ABLATIONS = ("qarl-linear", "qarl-point", "qarl-homogeneous", "force-curriculum")
REFERENCE_SEED = 1_000
EVALUATION_SEED = 10_000
QUANTITIES = {
    name: Quantity(f"return: {name.replace('_', ' ')}") for name in sorted(MEASURES, key="grid_mean".__ne__)
}


@dataclass(frozen=True)
class Task:
    """A task and how all methods train on it."""

    steps: int
    """Environment steps of each protagonist; an adversary takes as many again."""
    adversary_steps: int
    """Of the fresh adversary after training."""
    force: float
    """Force limit, N."""
    uncertainty_set: str
    """Name of the published set."""
    settings: dict[str, Any]
    """``PlayerSettings`` of all players."""
    episode_steps: int | None = 500
    """Control steps after which a training episode is cut."""
    points: int = 7
    """Values of each parameter in the grid."""
    grid_episodes: int = 3
    """Of each cell of the grid."""
    episodes: int = 20
    """Of the other evaluations."""
    methods: tuple[str, ...] = SHARED
    """What is compared."""


_SMALL = {"net": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "buffer_size": 200_000}
_LARGE = {"net": (256, 256), "batch_size": 256, "learning_starts": 5_000}
_PENDULUM = Task(100_000, 20_000, 3.0, "rrls-2", {**_SMALL, "learning_starts": 500}, methods=(*SHARED, *RIVALS))
# The published 2 N kept every curriculum of this length at its begin: robust_small_published_force.json.
_SWING_UP = Task(80_000, 20_000, 0.3, "qarl", {**_SMALL, "learning_starts": 1_000, "train_freq": 1})
TASKS = {
    "smoke": {
        "InvertedPendulum-v5": Task(
            900, 300, 3.0, "rrls-2", {**_SMALL, "learning_starts": 100}, points=2, grid_episodes=1, episodes=2
        )
    },
    "small": {"InvertedPendulum-v5": _PENDULUM, "dm_control/cartpole-swingup-v0": _SWING_UP},
    "paper": {
        task: Task(1_000_000, 200_000, 3.0, "rrls-2", _LARGE, None, 11, 5, methods=(*SHARED, *ABLATIONS, *RIVALS))
        for task in ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
    },
}

summarise = report.summarise
as_text = report.as_text
plot = report.plot


def cells(preset: str) -> list[Cell]:
    """Return all cells of a preset: seeds x tasks x methods.

    Those of the methods that every task has come first, and of those all of one seed before the next, so that a run
    that is broken off has as many seeds of each.
    """
    every = (
        Cell(NAME, preset, name, method, seed)
        for seed in range(SEEDS[preset])
        for name, task in TASKS[preset].items()
        for method in task.methods
    )
    return sorted(every, key=lambda cell: cell.method not in SHARED)


def run(cell: Cell, folder: Path) -> None:
    """Train one protagonist on one thread, measure its robustness and write the result."""
    import torch

    from entroreg.benchmarks.robust.measuring import measure
    from entroreg.benchmarks.robust.methods import reference_floor, train_method

    torch.set_num_threads(1)
    task = TASKS[cell.preset][cell.task]
    root = folder.parents[2]
    floor = reference_floor(cell.task, task, REFERENCE_SEED, root / "references" / f"{cell.task.replace('/', '_')}")
    started = time.perf_counter()
    trained = train_method(cell.method, cell.task, task, floor, cell.seed)
    seconds = time.perf_counter() - started
    trained.protagonist.save(folder / "protagonist.zip")
    result = measure(trained, cell.task, task, EVALUATION_SEED + cell.seed)
    write_result(folder, {**result, "steps": task.steps, "train_seconds": round(seconds, 1), "return_floor": floor})


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured: the return in the grid, nominally, and against a fresh adversary."""
    return of_seed(cell, {quantity: cell[name] for name, quantity in QUANTITIES.items()})


def curves(cell: Mapping[str, Any]) -> dict[str, Curve]:
    """Return the shape k of the distribution over temperatures by step of the curriculum, where it has one."""
    steps = [step for step in cell["curriculum"] if "shape" in step]
    return {"curriculum's shape k": [[index, step["shape"]] for index, step in enumerate(steps)]}


def grid(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of returns of a cell."""
    found: dict[str, Any] = cell["grid"]
    return found
