"""Learning of SAC and DiscreteSAC at the settings of Stable-Baselines3, and of Stable-Baselines3 itself."""

from __future__ import annotations

from pathlib import Path

from entroreg.benchmarks.cells import Cell
from entroreg.benchmarks.suites.learning import Task, curves, learning_cells, readings, run_learning

__all__ = ["cells", "curves", "readings", "run"]

NAME = "sac"
TASKS = {
    "InvertedPendulum-v5": Task(
        methods=("entroreg-sac", "sb3-sac"),
        steps={"smoke": 300, "small": 16_000, "paper": 100_000},
        settings={"learning_rate": 1e-3, "batch_size": 64, "policy_kwargs": {"net_arch": [64, 64]}},
    ),
    "CartPole-v1": Task(
        methods=("entroreg-discrete-sac", "sb3-dqn"),
        steps={"smoke": 1_200, "small": 60_000, "paper": 60_000},
        settings={
            "learning_rate": 1e-3,
            "batch_size": 128,
            "train_freq": 4,
            "gradient_steps": 2,
            "learning_starts": 1_000,
            "policy_kwargs": {"net_arch": [64, 64]},
        },
    ),
}
SEEDS = {"smoke": 2, "small": 5, "paper": 10}


def cells(preset: str) -> list[Cell]:
    """Return all cells of a preset: tasks x methods x seeds."""
    return learning_cells(NAME, preset, TASKS, SEEDS[preset])


def run(cell: Cell, folder: Path) -> None:
    """Train and evaluate one cell on one thread, and write its result."""
    run_learning(cell, folder, TASKS[cell.task])
