"""Learning of SAC on MuJoCo's locomotion tasks, on the engine and in Stable-Baselines3, at its default settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entroreg.benchmarks.cells import Cell
from entroreg.benchmarks.suites.learning import Task, curves, learning_cells, readings, run_learning

__all__ = ["cells", "curves", "plot", "readings", "run"]

NAME = "sac-mujoco"
_STEPS = {"smoke": 300, "small": 30_000, "paper": 1_000_000}
TASKS = {
    name: Task(methods=("entroreg-sac", "sb3-sac"), steps=_STEPS, settings={})
    for name in ("HalfCheetah-v5", "Hopper-v5")
}
SEEDS = {"smoke": 1, "small": 3, "paper": 10}


def cells(preset: str) -> list[Cell]:
    """Return all cells of a preset: tasks x methods x seeds."""
    return learning_cells(NAME, preset, TASKS, SEEDS[preset])


def run(cell: Cell, folder: Path) -> None:
    """Train and evaluate one cell on one thread, and write its result."""
    run_learning(cell, folder, TASKS[cell.task])


def plot(summary: dict[str, Any], picture: Path) -> None:
    """Draw the learning curves of all tasks and methods."""
    from entroreg.benchmarks.curves import plot_seed_curves

    plot_seed_curves(summary["cells"], picture)
