"""What the learning suites share: a cell trains an agent on one thread, then evaluates it greedily."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.readings import Curve, Quantity, Reading, of_seed

EVALUATION_EPISODES = {"smoke": 2, "small": 20, "paper": 20}
CURVE_POINTS = 15
RETURN = Quantity("return of the greedy policy")
SPEED = Quantity("environment steps per second of training", "1/s", is_time=True)


@dataclass(frozen=True)
class Task:
    """A task with the settings that all methods share."""

    methods: tuple[str, ...]
    """Methods that can act in it."""
    steps: dict[str, int]
    """Environment steps by preset."""
    settings: dict[str, Any]
    """Constructor arguments of the agents."""


def learning_cells(suite: str, preset: str, tasks: Mapping[str, Task], seeds: int) -> list[Cell]:
    """Return all cells of a preset: tasks x methods x seeds."""
    return [
        Cell(suite, preset, name, method, seed)
        for name, task in tasks.items()
        for method in task.methods
        for seed in range(seeds)
    ]


def run_learning(cell: Cell, folder: Path, task: Task) -> None:
    """Train and evaluate one cell on one thread, and write its result."""
    import torch

    from entroreg.benchmarks.building import make_environment
    from entroreg.benchmarks.evaluation import episode_returns, greedy_policy
    from entroreg.benchmarks.monitor import EpisodeRecorder
    from entroreg.benchmarks.row_file import METRICS, RowFile
    from entroreg.benchmarks.training import span

    torch.set_num_threads(1)
    steps = task.steps[cell.preset]
    env = make_environment(cell.task)
    agent = _agent(cell.method, env, task, cell.seed)
    with RowFile(folder / METRICS) as file:
        started = time.perf_counter()
        agent.learn(steps, callback=EpisodeRecorder(file))
        seconds = time.perf_counter() - started
    rows = file.rows
    returns = episode_returns(greedy_policy(agent), env, EVALUATION_EPISODES[cell.preset], seed=10_000 + cell.seed)
    result = {
        "score": float(np.mean(returns)),
        "returns": returns,
        "steps": steps,
        "train_seconds": round(seconds, 2),
        "train_steps_per_second": round(steps / seconds, 1),
        "alpha": span([row["alpha"] for row in rows if "alpha" in row]),
        "curve": learning_curve(rows, steps, "return"),
        "curves": {name: learning_curve(rows, steps, name) for name in ("entropy", "alpha")},
    }
    env.close()
    write_result(folder, result)


def learning_curve(rows: list[dict[str, float]], steps: int, name: str) -> list[list[float]]:
    """Return [last step, mean of a column] for equal parts of a training, those in which an episode with it ended.

    Args:
        rows: one for each episode, with step and return, and once there were updates entropy and alpha.
        steps: of the training.
        name: of the column.
    """
    rows = [row for row in rows if name in row]
    ends = np.linspace(0, steps, CURVE_POINTS + 1)[1:]
    parts = np.searchsorted(ends, [row["step"] for row in rows])
    means = []
    for part, end in enumerate(ends):
        values = [row[name] for row, its in zip(rows, parts, strict=True) if its == part]
        if values:
            means.append([float(end), float(f"{np.mean(values):.5g}")])
    return means


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured."""
    return of_seed(cell, {RETURN: cell["score"], SPEED: cell.get("train_steps_per_second")})


def curves(cell: Mapping[str, Any]) -> dict[str, Curve]:
    """Return the curves of a cell over environment steps."""
    return {"return": cell.get("curve", []), **cell.get("curves", {})}


def _agent(method: str, env: Any, task: Task, seed: int) -> Any:
    import stable_baselines3

    from entroreg.agents import SAC, DiscreteSAC

    classes = {
        "entroreg-sac": SAC,
        "entroreg-discrete-sac": DiscreteSAC,
        "sb3-sac": stable_baselines3.SAC,
        "sb3-dqn": stable_baselines3.DQN,
    }
    return classes[method]("MlpPolicy", env, seed=seed, device="cpu", **task.settings)
