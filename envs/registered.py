"""What ``gymnasium.make("entroreg/...")`` builds from a task's id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.envs.adversarial import AdversaryView, ProtagonistView, PushedTask, find_forces
from entroreg.envs.adversarial.forces import Box3, Forces
from entroreg.envs.perturbations import Perturbed, Randomised
from entroreg.envs.tasks import Env, make_task
from entroreg.envs.uncertainty_sets import find_set


@dataclass(frozen=True)
class SteadyWind:
    """An opponent that always pushes alike; one of these equals another, so a spec can be made again."""

    shares: tuple[float, ...]
    """Of the force limit, (k,)."""

    def __call__(self, _observation: NDArray[Any]) -> NDArray[Any]:
        """Return the shares."""
        return np.array(self.shares)


def make_perturbed(task: str, values: Mapping[str, float] | None = None, physics: str = "correct") -> Env:
    """Return a task with perturbed physics; arguments as for ``Perturbed``."""
    return Perturbed(make_task(task), values, physics)


def make_randomised(task: str, uncertainty_set: str, physics: str = "correct") -> Env:
    """Return a task with parameters drawn for each episode from a published set, by its name."""
    return Randomised(make_task(task), find_set(task, uncertainty_set), physics)


def make_protagonist(task: str, opponent: Any = None, limit: float | None = None) -> Env:
    """Return a task with an adversary; its forces are those of the table, with another limit if given."""
    return ProtagonistView(PushedTask(make_task(task), _forces(task, limit)), opponent)


def make_adversary(task: str, opponent: Any = None, limit: float | None = None) -> Env:
    """Return the adversary's side of a task."""
    return AdversaryView(PushedTask(make_task(task), _forces(task, limit)), opponent)


def make_windy(
    task: str = "Ant-v5",
    body: str = "torso",
    wind: tuple[float, float, float] = (0.0, 1.0, 0.0),
    limit: float = 3.0,
    region: Box3 = ((2.0, 6.0), (-100.0, 100.0)),
) -> Env:
    """Return a task with a steady wind on one body, which blows in a region only.

    Args:
        task: id.
        body: on which it acts.
        wind: its x, y and z components as shares of the limit.
        limit: N.
        region: ((x from, to), (y from, to)) in metres.
    """
    pushed = PushedTask(make_task(task), Forces({body: ("Fx", "Fy", "Fz")}, limit, region))
    return ProtagonistView(pushed, SteadyWind(wind))


def _forces(task: str, limit: float | None) -> Forces:
    forces = find_forces(task)
    return forces if limit is None else replace(forces, limit=limit)
