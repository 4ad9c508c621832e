"""Returns of a policy over a grid of perturbed parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from entroreg.benchmarks.evaluation import Act, episode_returns
from entroreg.envs import Perturbed, UncertaintySet, make_task
from entroreg.envs.tasks import Task


def robust_grid(
    act: Act,
    task: Task,
    uncertainty_set: UncertaintySet,
    *,
    points: int,
    episodes: int,
    seed: int,
    physics: str = "correct",
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Return the mean returns of a policy where one or two parameters take each of several values.

    Every cell has the same starts.

    Args:
        act: from the task's own observation to an action.
        task: as for ``make_task``.
        uncertainty_set: with one or two parameters; of three, the third stays the task's own.
        points: values of each parameter, evenly spaced over its range, at least 2.
        episodes: of each cell.
        seed: of the starts.
        physics: as for ``Perturbed``.
        stop: asked before each step; True ends at once.

    Returns:
        None if stopped, else ``parameters``, their ``values``, the task's own ``nominal_values``, the ``returns``
        of the cells as nested lists, the first parameter's index first, and what ``summary_of`` makes of them.
    """
    env = Perturbed(make_task(task), physics=physics)
    ranges = uncertainty_set.ranges[:2]
    values = [np.linspace(one.low, one.high, points) for one in ranges]
    nominal = float(np.mean(episode_returns(act, env, episodes, seed, stop=stop) or [0.0]))
    cells = np.empty([points] * len(ranges))
    for index in np.ndindex(*cells.shape):
        env.perturb({one.name: float(axis[i]) for one, axis, i in zip(ranges, values, index, strict=True)})
        returns = episode_returns(act, env, episodes, seed, stop=stop)
        if stop():
            return None
        cells[index] = np.mean(returns)
    found = {
        "parameters": [one.name for one in ranges],
        "values": [[float(value) for value in axis] for axis in values],
        "nominal_values": [env.nominal_value(one.name) for one in ranges],
        "returns": cells.tolist(),
        "episodes": episodes,
        "physics": physics,
        **summary_of(cells, nominal),
    }
    env.close()
    return found


def summary_of(returns: np.ndarray, nominal: float) -> dict[str, Any]:
    """Return worst case, mean and the share of the nominal return that the area under the grid keeps.

    Args:
        returns: (m,) or (m, m), of evenly spaced values.
        nominal: return of the unperturbed task.

    Returns:
        ``nominal``, ``worst``, ``mean``, and ``area_over_nominal``, by the trapezoidal rule; None where the nominal
        return is not above 0, since a share of it would say nothing.
    """
    area: Any = np.asarray(returns, dtype=np.float64)
    for _ in range(area.ndim):
        area = np.trapezoid(area, axis=0) / (len(area) - 1)
    return {
        "nominal": nominal,
        "worst": float(np.min(returns)),
        "mean": float(np.mean(returns)),
        "area_over_nominal": float(area) / nominal if nominal > 0.0 else None,
    }
