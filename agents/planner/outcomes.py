"""How good simulated plans are: subscores between 0 and 1, and the score that joins them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entroreg.envs.navigation.environment import GOAL_RADIUS
from entroreg.envs.navigation.model import MAX_SPEED, control_period
from entroreg.envs.navigation.simulation import SimulatedPlans

_HARSH = 6.0  # m/s^2: at this root mean square acceleration, comfort is 1/e
_PROGRESS, _COMFORT = 0.9, 0.1  # weights, as in PDMS: a collision is worth 0, all else adds up


class Subscores(NamedTuple):
    """Of N plans, each (N,) in [0, 1].

    Attributes:
        safe: 1 without a collision, else 0.
        progress: the share of the way to the goal, or of what the highest speed could make, that is covered.
        comfort: exp of minus the mean square acceleration over 36 m^2/s^4.
    """

    safe: NDArray[np.float64]
    progress: NDArray[np.float64]
    comfort: NDArray[np.float64]

    def score(self) -> NDArray[np.float64]:
        """Return safe x (0.9 progress + 0.1 comfort), (N,)."""
        return self.safe * (_PROGRESS * self.progress + _COMFORT * self.comfort)


def judge(plans: SimulatedPlans, distance: float, velocity: NDArray[np.float64]) -> Subscores:
    """Return the subscores of plans.

    Args:
        plans: simulated from one state.
        distance: to the goal in that state, in metres.
        velocity: (2,) in that state, in m/s.
    """
    steps, period = plans.distances.shape[1], control_period()
    before = np.arange(steps) < plans.collision_step[:, None]
    nearest = np.where(before, plans.distances, distance).min(axis=1)
    reachable = min(max(distance - GOAL_RADIUS, 1e-6), steps * period * MAX_SPEED)
    progress = np.clip((distance - nearest) / reachable, 0.0, 1.0)
    velocities = np.concatenate([np.broadcast_to(velocity, (len(progress), 1, 2)), plans.velocities], axis=1)
    accelerations = np.diff(velocities, axis=1) / period
    mean_square = (accelerations**2).sum(axis=-1).mean(axis=1)
    safe = (plans.collision_step == steps).astype(np.float64)
    return Subscores(safe, progress, np.exp(-mean_square / _HARSH**2))
