"""Learning of SAC and DiscreteSAC at the settings of Stable-Baselines3, and of Stable-Baselines3 itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, write_result

NAME = "sac"
EVALUATION_EPISODES = 20


@dataclass(frozen=True)
class Task:
    """A task with the settings that all methods share."""

    methods: tuple[str, ...]
    """Methods that can act in it."""
    steps: dict[str, int]
    """Environment steps by preset."""
    settings: dict[str, Any]
    """Constructor arguments of the agents."""


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
    return [
        Cell(NAME, preset, name, method, seed)
        for name, task in TASKS.items()
        for method in task.methods
        for seed in range(SEEDS[preset])
    ]


def run(cell: Cell, folder: Path) -> None:
    """Train and evaluate one cell on one thread, and write its result."""
    import torch

    from entroreg.benchmarks.building import make_environment
    from entroreg.benchmarks.evaluation import episode_returns, greedy_policy
    from entroreg.benchmarks.monitor import EpisodeRecorder
    from entroreg.benchmarks.training import span

    torch.set_num_threads(1)
    task = TASKS[cell.task]
    steps = task.steps[cell.preset]
    env = make_environment(cell.task)
    agent = _agent(cell.method, env, task, cell.seed)
    with (folder / "metrics.jsonl").open("w") as metrics:
        recorder = EpisodeRecorder(metrics)
        started = time.perf_counter()
        agent.learn(steps, callback=recorder)
        seconds = time.perf_counter() - started
    returns = episode_returns(greedy_policy(agent), env, EVALUATION_EPISODES, seed=10_000 + cell.seed)
    result = {
        "score": float(np.mean(returns)),
        "returns": returns,
        "steps": steps,
        "train_seconds": round(seconds, 2),
        "train_steps_per_second": round(steps / seconds, 1),
        "alpha": span([row["alpha"] for row in recorder.rows if "alpha" in row]),
    }
    env.close()
    write_result(folder, result)


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
