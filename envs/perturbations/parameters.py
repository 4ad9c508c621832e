"""Physical parameters of a MuJoCo model by name, read and set as absolute values in MuJoCo's units.

``mass:BODY`` in kg, ``friction:GEOM`` or ``friction`` (of every geom) as a sliding coefficient,
``damping:JOINT`` or ``damping`` (of every joint), ``gain:ACTUATOR`` or ``gain`` (of every actuator) and
``gravity`` in m/s^2. What has no name in the model is called by its number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mujoco
import numpy as np

from entroreg import _checks
from entroreg.envs.tasks import unknown

PHYSICS = ("correct", "published")
_Object = mujoco.mjtObj


class _Kind(NamedTuple):
    """A kind of parameter.

    Attributes:
        object: what its target is in the model; None where there is no target.
        all: whether the target may be left out, which means all of them.
        positive: whether 0 is refused.
        read: from (model, index) to the value.
        set: of (model, indices, value), with all that follows from it.
        publish: of (model, indices, value), that one array alone, as the published setters do.
    """

    object: mujoco.mjtObj | None
    all: bool
    positive: bool
    read: Callable[[mujoco.MjModel, int], float]
    set: Callable[[mujoco.MjModel, list[int], float], None]
    publish: Callable[[mujoco.MjModel, list[int], float], None]


def set_parameter(model: mujoco.MjModel, name: str, value: float, physics: str = "correct") -> None:
    """Set a parameter of a model, in place.

    Args:
        model: compiled.
        name: such as ``mass:torso``; see the module.
        value: absolute, in MuJoCo's units; a mass above 0, everything else at least 0.
        physics: "correct" moves what follows from it: inertia with mass and the constants derived from both, both
            geoms of a contact (of which MuJoCo takes the larger friction), the restoring part of a servo with its
            gain. "published" sets the one array, as the authors of the uncertainty sets do.

    Raises:
        TypeError: value no number.
        ValueError: unknown kind, target or physics, or a value that no physics has.
    """
    _checks.require_choice("physics", physics, PHYSICS)
    kind, targets = _find(model, name)
    number = _checks.require_number(name, value, low=0.0)
    if kind.positive and number == 0.0:
        raise ValueError(f"{name} must be above 0, got {value}")
    (kind.set if physics == "correct" else kind.publish)(model, targets, number)


def read_parameter(model: mujoco.MjModel, name: str) -> float | None:
    """Return the value of a parameter, or None where the name stands for several that differ.

    Args:
        model: compiled.
        name: as in ``set_parameter``.

    Raises:
        ValueError: unknown kind or target.
    """
    kind, targets = _find(model, name)
    values = {kind.read(model, target) for target in targets}
    return values.pop() if len(values) == 1 else None


def require_parameter(model: mujoco.MjModel, name: str) -> None:
    """Refuse a name that the model does not have, with the nearest ones that it has."""
    _find(model, name)


def _find(model: mujoco.MjModel, name: str) -> tuple[_Kind, list[int]]:
    word, _, target = name.partition(":")
    if word not in _KINDS:
        raise unknown("parameter", word, _KINDS)
    kind = _KINDS[word]
    if kind.object is None:
        if target:
            raise ValueError(f"{word} has no target, got {name!r}: leave ':{target}' out")
        return kind, [0]
    names = _names(model, kind.object)
    if target:
        if target not in names:
            raise unknown(f"target of {word}", target, names)
        return kind, [names[target]]
    if not kind.all:
        raise ValueError(f"{word} needs a target, such as {word}:{next(iter(names), '')}")
    return kind, list(names.values())


def _names(model: mujoco.MjModel, kind: mujoco.mjtObj) -> dict[str, int]:
    counts = {_Object.mjOBJ_BODY: model.nbody, _Object.mjOBJ_GEOM: model.ngeom}
    counts |= {_Object.mjOBJ_JOINT: model.njnt, _Object.mjOBJ_ACTUATOR: model.nu}
    first = 1 if kind == _Object.mjOBJ_BODY else 0  # the world is no body that can be changed
    return {mujoco.mj_id2name(model, kind, i) or str(i): i for i in range(first, counts[kind])}


def _set_mass(model: mujoco.MjModel, bodies: list[int], value: float) -> None:
    for body in bodies:
        if model.body_mass[body] == 0.0:
            raise ValueError(
                f"body {model.body(body).name} has no mass, so nothing says how its inertia would grow"
            )
        model.body_inertia[body] *= value / model.body_mass[body]
    _publish_mass(model, bodies, value)
    mujoco.mj_setConst(model, mujoco.MjData(model))  # inverse weights, subtree masses, reference accelerations
    model.stat.meaninertia = float(
        model.dof_M0.mean()
    )  # which that leaves, and which scales the solver's tolerance


def _publish_mass(model: mujoco.MjModel, bodies: list[int], value: float) -> None:
    model.body_mass[bodies] = value


def _set_friction(model: mujoco.MjModel, geoms: list[int], value: float) -> None:
    _publish_friction(model, geoms, value)
    for geom in geoms:
        for pair in np.flatnonzero((model.pair_geom1 == geom) | (model.pair_geom2 == geom)):
            model.pair_friction[pair, :2] = value
        # The larger friction of two geoms counts: whatever the geom may touch must not exceed it. Between two
        # moving bodies the other one keeps its own, since it also touches the ground.
        for other in _touched(model, geom):
            if 0 in (model.geom_bodyid[geom], model.geom_bodyid[other]):
                model.geom_friction[other, 0] = min(model.geom_friction[other, 0], value)


def _touched(model: mujoco.MjModel, geom: int) -> list[int]:
    types, affinities = model.geom_contype, model.geom_conaffinity
    touching = (types & affinities[geom]) | (affinities & types[geom])
    return [int(g) for g in np.flatnonzero(touching) if model.geom_bodyid[g] != model.geom_bodyid[geom]]


def _publish_friction(model: mujoco.MjModel, geoms: list[int], value: float) -> None:
    model.geom_friction[geoms, 0] = value


def _set_damping(model: mujoco.MjModel, joints: list[int], value: float) -> None:
    model.dof_damping[np.isin(model.dof_jntid, joints)] = value


def _set_gain(model: mujoco.MjModel, actuators: list[int], value: float) -> None:
    for actuator in actuators:
        gain = model.actuator_gainprm[actuator, 0]
        if model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE and gain != 0.0:
            model.actuator_biasprm[actuator, :3] *= value / gain
    _publish_gain(model, actuators, value)


def _publish_gain(model: mujoco.MjModel, actuators: list[int], value: float) -> None:
    model.actuator_gainprm[actuators, 0] = value


def _set_gravity(model: mujoco.MjModel, _: list[int], value: float) -> None:
    length = float(np.linalg.norm(model.opt.gravity))
    direction = model.opt.gravity / length if length > 0.0 else np.array([0.0, 0.0, -1.0])
    model.opt.gravity[:] = direction * value


_KINDS = {
    "mass": _Kind(_Object.mjOBJ_BODY, False, True, lambda m, i: float(m.body_mass[i]), _set_mass, _publish_mass),
    "friction": _Kind(
        _Object.mjOBJ_GEOM, True, False, lambda m, i: float(m.geom_friction[i, 0]), _set_friction, _publish_friction
    ),
    "damping": _Kind(
        _Object.mjOBJ_JOINT,
        True,
        False,
        lambda m, i: float(m.dof_damping[m.jnt_dofadr[i]]),
        _set_damping,
        _set_damping,
    ),
    "gain": _Kind(
        _Object.mjOBJ_ACTUATOR,
        True,
        False,
        lambda m, i: float(m.actuator_gainprm[i, 0]),
        _set_gain,
        _publish_gain,
    ),
    "gravity": _Kind(
        None, True, False, lambda m, _: float(np.linalg.norm(m.opt.gravity)), _set_gravity, _set_gravity
    ),
}
