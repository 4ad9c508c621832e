"""Outcomes of plans, simulated side by side from one state."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from entroreg.envs.navigation.maps import Map
from entroreg.envs.navigation.model import MAX_SPEED, SUBSTEPS


class SimulatedPlans(NamedTuple):
    """What N plans of T control steps lead to.

    Attributes:
        positions: (N, T, 2) after each control step, in metres; after a collision, where physics pushes the robot.
        velocities: (N, T, 2) in m/s.
        collision_step: (N,) the control step of the first collision, T where there is none.
        distances: (N, T) to the goal, in metres.
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    collision_step: NDArray[np.int64]
    distances: NDArray[np.float64]


def simulate_plans(model: Any, data: Any, drawn: Map, plans: NDArray[np.float64]) -> SimulatedPlans:
    """Simulate plans from a state, which stays as it is.

    Args:
        model: from `build_model`.
        data: the state, left alone.
        drawn: the model's map.
        plans: (N, T, 2) actions in [-1, 1], shares of the highest speed.
    """
    import mujoco
    from mujoco import rollout

    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    state = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    controls = np.repeat(plans * MAX_SPEED, SUBSTEPS, axis=1)
    states, _ = rollout.rollout(model, mujoco.MjData(model), state[None], controls)
    # A full state is the time, then positions and velocities.
    positions, velocities = states[..., 1:3], states[..., 3:5]
    count, steps = plans.shape[:2]
    # Contact begins where surfaces meet, so after a substep that ends in an overlap.
    overlaps = drawn.clearance(positions) < 0.0
    hit = np.any(overlaps.reshape(count, steps, SUBSTEPS), axis=2)
    ends = positions[:, SUBSTEPS - 1 :: SUBSTEPS]
    return SimulatedPlans(
        ends,
        velocities[:, SUBSTEPS - 1 :: SUBSTEPS],
        np.where(hit.any(axis=1), hit.argmax(axis=1), steps),
        np.linalg.norm(ends - drawn.goal, axis=-1),
    )


def require_actions(actions: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return actions clipped to [-1, 1]; a ValueError for another shape or a number that is not finite."""
    values = np.asarray(actions, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"actions must have shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("actions must be finite, got NaN or infinity: look at the policy")
    return np.clip(values, -1.0, 1.0)
