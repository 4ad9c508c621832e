"""Which bodies of a task an adversary pushes, in which directions and how hard; and the task that it pushes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.envs.tasks import DM, Env, mujoco_of, unknown

AXES = ("Fx", "Fy", "Fz", "Tx", "Ty", "Tz")
Box3 = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Forces:
    """Forces and torques in world coordinates at the centres of mass of bodies.

    Raises:
        TypeError: limit no number.
        ValueError: no body, an unknown axis, a limit that is not above 0, or a region that ends before it begins.
    """

    bodies: Mapping[str, tuple[str, ...]]
    """Body -> axes out of Fx, Fy, Fz, Tx, Ty, Tz."""
    limit: float
    """Largest size of each component, in N or N m."""
    region: Box3 | None = None
    """((x from, to), (y from, to)) in metres: outside it, nothing acts on a body. None for everywhere."""

    def __post_init__(self) -> None:
        _checks.require_positive("limit", self.limit)
        if not self.bodies:
            raise ValueError("forces must act on at least one body, got none")
        for body, axes in self.bodies.items():
            for axis in axes:
                if axis not in AXES:
                    raise unknown(f"axis of {body}", axis, AXES)
        for low, high in self.region or ():
            if low >= high:
                raise ValueError(f"the region must end after it begins, got {low} to {high}")

    def applied_to(self, env: Env) -> PushedTask:
        """Return a task on MuJoCo under this influence."""
        return PushedTask(env, self)


def _planar(*bodies: str) -> dict[str, tuple[str, ...]]:
    """Return the two directions that move a body in a plane: x and z (y would do nothing)."""
    return dict.fromkeys(bodies, ("Fx", "Fz"))


# QARL's domains (arXiv 2311.01642) for dm_control. For Gymnasium's tasks the same bodies, with RRLS's 3 N.
_DM = {
    "acrobot": Forces(_planar("upper_arm"), 1.0),
    "ball_in_cup": Forces(_planar("ball"), 0.005),
    "cartpole": Forces(_planar("pole_1"), 2.0),
    "cheetah": Forces(_planar("torso", "bfoot", "ffoot"), 1.0),
    "hopper": Forces(_planar("foot"), 1.0),
    "pendulum": Forces(_planar("pole"), 1.0),
    "quadruped": Forces({"torso": ("Fx", "Fz", "Ty")}, 10.0),
    "reacher": Forces({"arm": ("Fx", "Fy")}, 0.1),
    "walker": Forces(_planar("left_foot", "right_foot"), 1.0),
}
_GYMNASIUM = {
    "Ant-v5": Forces({"torso": ("Fx", "Fy", "Fz")}, 3.0),
    "HalfCheetah-v5": Forces(_planar("torso", "bfoot", "ffoot"), 3.0),
    "Hopper-v5": Forces(_planar("foot"), 3.0),
    "HumanoidStandup-v5": Forces({"torso": ("Fx", "Fy", "Fz")}, 3.0),
    "InvertedDoublePendulum-v5": Forces(_planar("pole2"), 3.0),
    "InvertedPendulum-v5": Forces(_planar("pole"), 3.0),
    "Walker2d-v5": Forces(_planar("foot", "foot_left"), 3.0),
}


def find_forces(task: str) -> Forces:
    """Return the forces of an adversary in a task.

    Args:
        task: id, such as Hopper-v5 or dm_control/walker-walk-v0.

    Raises:
        ValueError: none are known; the nearest tasks are named.
    """
    if task.startswith(DM):
        domain = task.removeprefix(DM).partition("-")[0]
        if domain not in _DM:
            raise unknown("domain of dm_control with forces", domain, _DM)
        return _DM[domain]
    if task not in _GYMNASIUM:
        raise unknown("task with forces", task, [*_GYMNASIUM, *(f"{DM}{domain}-*" for domain in _DM)])
    return _GYMNASIUM[task]


class PushedTask(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """A MuJoCo task whose bodies can be pushed from outside.

    Args:
        env: a task on MuJoCo.
        forces: on which bodies.

    Attributes:
        scale: share of the limit that is in force, a curriculum's to move.
        force_space: of ``push``: (k,) in [-1, 1], the components of all bodies in order.

    Raises:
        TypeError: the task is not on MuJoCo.
        ValueError: a body that the model does not have; the nearest are named.
    """

    def __init__(self, env: Env, forces: Forces) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, forces=forces)
        gymnasium.Wrapper.__init__(self, env)
        model, self._data = mujoco_of(env)
        pairs = [(_body(model, body), AXES.index(axis)) for body, axes in forces.bodies.items() for axis in axes]
        self._rows, columns = (np.array(side) for side in zip(*pairs, strict=True))
        self._limit, self._region = forces.limit, forces.region
        self._applied = self._data.xfrc_applied.reshape(-1)  # a view
        self._places = self._rows * len(AXES) + columns
        self.scale = 1.0
        self.force_space = spaces.Box(-1.0, 1.0, (len(pairs),), np.float32)

    def push(self, shares: NDArray[Any]) -> None:
        """Let forces act from the next step on, until others are given or the episode ends.

        Args:
            shares: (k,) of the limit, in [-1, 1]; clipped.

        Raises:
            ValueError: another shape, or NaN, after which MuJoCo would begin anew in the middle of an episode.
        """
        # Not np.clip, which takes as long as all the rest; nor np.isnan.
        forces = np.minimum(np.maximum(shares, -1.0), 1.0) * (self._limit * self.scale)
        if len(shares) != len(self._rows) or math.isnan(sum(forces.tolist())):
            raise ValueError(f"shares of the forces must be {len(self._rows)} numbers, got {shares}")
        if self._region is not None:
            forces = forces * self._inside()
        self._applied[self._places] = forces

    def _inside(self) -> NDArray[np.bool_]:
        (x_low, x_high), (y_low, y_high) = self._region  # type: ignore[misc]
        x, y = self._data.xipos[self._rows, 0], self._data.xipos[self._rows, 1]
        inside: NDArray[np.bool_] = (x_low <= x) & (x <= x_high) & (y_low <= y) & (y <= y_high)
        return inside

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, with nothing pushing."""
        found = self.env.reset(seed=seed, options=options)
        self._applied[self._places] = 0.0
        return found


def _body(model: mujoco.MjModel, name: str) -> int:
    names = [model.body(index).name for index in range(1, model.nbody)]
    if name not in names:
        raise unknown("body", name, filter(None, names))
    return names.index(name) + 1
