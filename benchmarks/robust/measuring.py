"""What is measured of a trained protagonist: nominal return, grid, its own adversary, a fresh one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from entroreg.agents.adversarial.players import Frozen
from entroreg.benchmarks.evaluation import episode_returns
from entroreg.benchmarks.robust.adversaries import returns_against, worst_adversary
from entroreg.benchmarks.robust.grid import robust_grid
from entroreg.benchmarks.robust.methods import Trained, forces_of, settings_of
from entroreg.envs import find_set, make_task

if TYPE_CHECKING:
    from entroreg.benchmarks.suites.robust import Task

MEASURES = ("nominal", "grid_mean", "grid_worst", "fresh_adversary")


def measure(trained: Trained, name: str, task: Task, seed: int) -> dict[str, Any]:
    """Measure a protagonist, greedy, with the task's own horizon.

    Args:
        trained: by a method of the suite.
        name: of the task.
        task: its settings.
        seed: of all starts and of the fresh adversary.

    Returns:
        Means of undiscounted returns under ``MEASURES``, ``own_adversary`` where the training had one, the
        ``grid``, the ``curriculum``, and ``score``, the mean over the grid.
    """
    act = Frozen(trained.protagonist, stochastic=False)
    forces = forces_of(name, task)
    env = make_task(name)
    nominal = episode_returns(act, env, task.episodes, seed)
    env.close()
    grid = robust_grid(
        act,
        name,
        find_set(name, task.uncertainty_set),
        points=task.points,
        episodes=task.grid_episodes,
        seed=seed,
    )
    assert grid is not None, "nothing stops it"
    worst = worst_adversary(act, name, forces, settings_of(task), task.adversary_steps, seed)
    fresh = returns_against(act, worst, name, forces, task.episodes, seed)
    own = None
    if trained.adversary is not None and trained.forces is not None:
        own = float(np.mean(returns_against(act, trained.adversary, name, trained.forces, task.episodes, seed)))
    return {
        "score": grid["mean"],
        "nominal": float(np.mean(nominal)),
        "grid_mean": grid["mean"],
        "grid_worst": grid["worst"],
        "fresh_adversary": float(np.mean(fresh)),
        "own_adversary": own,
        "grid": grid,
        "curriculum": trained.curriculum,
    }
