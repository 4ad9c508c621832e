"""Perturbed physics against closed forms, on models small enough to have one."""

from __future__ import annotations

import math

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from entroreg.envs import Perturbed
from entroreg.envs.perturbations import read_parameter, set_parameter

STEP = 1e-3


def _model(body: str, extra: str = "", gravity: float = 9.81) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(
        f'<mujoco><option timestep="{STEP}" gravity="0 0 -{gravity}" integrator="implicitfast"/>'
        f"<worldbody>{body}</worldbody>{extra}</mujoco>"
    )


BALL = '<body name="ball" pos="0 0 10"><freejoint name="free"/><geom name="ball" size=".1" mass="1"/></body>'
PENDULUM = (
    '<body name="rod" pos="0 0 2"><joint name="hinge" axis="0 1 0"/>'
    '<geom name="rod" type="capsule" fromto="0 0 0 0 0 -1" size=".02" mass="2"/></body>'
)
BOX = (
    '<geom name="floor" type="plane" size="50 50 1" friction="{floor} .005 .0001"/>'
    '<body name="box" pos="0 0 .1"><freejoint/><geom name="box" type="box" size=".1 .1 .1" mass="1" '
    'friction="{box} .005 .0001"/></body>'
)


@pytest.mark.parametrize("gravity", [0.0, 1.62, 9.81, 25.0])
def test_free_fall(gravity: float) -> None:
    model = _model(BALL)
    set_parameter(model, "gravity", gravity)
    data = mujoco.MjData(model)
    for _ in range(500):
        mujoco.mj_step(model, data)
    # Semi-implicit Euler: v grows first, so n steps fall g dt^2 n (n + 1) / 2.
    assert data.qpos[2] - 10.0 == pytest.approx(-gravity * STEP**2 * 500 * 501 / 2, abs=1e-9)


def _period(model: mujoco.MjModel) -> float:
    """Return the time between two passages of a small swing in the same direction."""
    data = mujoco.MjData(model)
    data.qpos[0] = 0.01
    passed: list[float] = []
    before = data.qpos[0]
    while len(passed) < 2:
        mujoco.mj_step(model, data)
        if before < 0.0 <= data.qpos[0]:
            share = -before / (data.qpos[0] - before)
            passed.append(data.time - STEP * (1.0 - share))
        before = data.qpos[0]
    return passed[1] - passed[0]


def _expected_period(model: mujoco.MjModel, mass: float, inertia: float) -> float:
    """Return 2 pi sqrt((I + m l^2) / (m g l)) of a compound pendulum."""
    length = abs(float(model.body_ipos[1][2]))
    return 2.0 * math.pi * math.sqrt((inertia + mass * length**2) / (mass * 9.81 * length))


@pytest.mark.parametrize("mass", [0.5, 2.0, 9.0])
def test_the_period_of_a_pendulum_stays_where_inertia_follows_its_mass(mass: float) -> None:
    model = _model(PENDULUM)
    nominal_inertia = float(model.body_inertia[1][1])
    inertia = nominal_inertia * mass / 2.0
    plain = _expected_period(model, 2.0, nominal_inertia)
    set_parameter(model, "mass:rod", mass)
    assert _expected_period(model, mass, inertia) == pytest.approx(plain)
    assert _period(model) == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("mass", [0.5, 9.0])
def test_the_published_setter_changes_the_period_since_inertia_stays(mass: float) -> None:
    model = _model(PENDULUM)
    inertia = float(model.body_inertia[1][1])
    plain = _expected_period(model, 2.0, inertia)
    set_parameter(model, "mass:rod", mass, "published")
    expected = _expected_period(model, mass, inertia)
    assert abs(expected / plain - 1.0) > 0.05
    assert _period(model) == pytest.approx(expected, rel=1e-3)


def _slide(model: mujoco.MjModel, speed: float = 2.0) -> float:
    data = mujoco.MjData(model)
    for _ in range(200):  # let it settle
        mujoco.mj_step(model, data)
    start = float(data.qpos[0])
    data.qvel[0] = speed
    for _ in range(4_000):
        mujoco.mj_step(model, data)
        if data.qvel[0] < 1e-3:
            break
    return float(data.qpos[0]) - start


@pytest.mark.parametrize("named", ["floor", "box"])
@pytest.mark.parametrize(("floor", "box"), [(1.0, 2.0), (2.0, 1.0), (0.1, 0.2)])
@pytest.mark.parametrize("friction", [0.2, 0.5])
def test_sliding_distance(named: str, floor: float, box: float, friction: float) -> None:
    model = _model(BOX.format(floor=floor, box=box))
    set_parameter(model, f"friction:{named}", friction)
    # v^2 / (2 mu g); the contact is soft and its cone a pyramid: measured up to 3 %.
    assert _slide(model) == pytest.approx(2.0**2 / (2.0 * friction * 9.81), rel=0.04)


def test_the_published_setter_of_a_floor_does_nothing_below_the_foots_friction() -> None:
    model = _model(BOX.format(floor=1.0, box=0.8))
    before = _slide(model)
    set_parameter(model, "friction:floor", 0.1, "published")
    assert _slide(model) == pytest.approx(2.0**2 / (2.0 * 0.8 * 9.81), rel=0.04)
    assert before == pytest.approx(2.0**2 / (2.0 * 1.0 * 9.81), rel=0.06)  # measured 5.2 %: the short one tips
    set_parameter(model, "friction", 0.1, "published")  # of every geom, as QARL's setter
    assert _slide(model) == pytest.approx(2.0**2 / (2.0 * 0.1 * 9.81), rel=0.04)


def test_derived_constants_are_those_of_a_model_compiled_with_the_mass() -> None:
    heavy = _model(PENDULUM.replace('mass="2"', 'mass="7"'))
    model = _model(PENDULUM)
    set_parameter(model, "mass:rod", 7.0)
    for name in ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0"):
        np.testing.assert_allclose(getattr(model, name), getattr(heavy, name), rtol=1e-12)
    assert model.stat.meaninertia == pytest.approx(heavy.stat.meaninertia)


def test_damping_slows_a_hinge_as_it_should() -> None:
    model = _model(PENDULUM, gravity=0.0)
    set_parameter(model, "damping:hinge", 0.3)
    data = mujoco.MjData(model)
    data.qvel[0] = 1.0
    inertia = float(model.body_inertia[1][1] + 2.0 * model.body_ipos[1][2] ** 2)
    for _ in range(1_000):
        mujoco.mj_step(model, data)
    assert data.qvel[0] == pytest.approx(math.exp(-0.3 / inertia), rel=1e-3)


def test_gain_of_a_motor_and_of_a_servo() -> None:
    motor = _model(PENDULUM, '<actuator><motor name="motor" joint="hinge" gear="3"/></actuator>', gravity=0.0)
    set_parameter(motor, "gain:motor", 2.0)
    data = mujoco.MjData(motor)
    data.ctrl[0] = 0.5
    mujoco.mj_forward(motor, data)
    assert data.qfrc_actuator[0] == pytest.approx(0.5 * 2.0 * 3.0)

    servo = '<actuator><position name="servo" joint="hinge" kp="10" kv="1"/></actuator>'
    for physics, rests in (("correct", 0.4), ("published", 0.4 * 40.0 / 10.0)):
        model = _model(PENDULUM, servo, gravity=0.0)
        set_parameter(model, "gain:servo", 40.0, physics)
        data = mujoco.MjData(model)
        data.ctrl[0] = 0.4
        for _ in range(12_000):
            mujoco.mj_step(model, data)
        assert data.qpos[0] == pytest.approx(rests, abs=1e-3), physics


def test_reading_is_setting_backwards() -> None:
    model = _model(PENDULUM, '<actuator><motor name="motor" joint="hinge"/></actuator>')
    for name in ("mass:rod", "friction:rod", "damping:hinge", "gain:motor", "gravity", "friction", "gain"):
        set_parameter(model, name, 0.7)
        assert read_parameter(model, name) == pytest.approx(0.7)


def _foot_friction(env: gym.Env[object, object]) -> set[float]:
    """Return the friction of the contacts of feet with the floor in a short fall."""
    model, data = env.unwrapped.model, env.unwrapped.data  # type: ignore[attr-defined]
    floor = model.geom("floor").id
    feet = {i for i in range(model.ngeom) if "foot" in model.geom(i).name}
    env.reset(seed=0)
    found = set()
    for _ in range(60):
        env.step(np.zeros(env.action_space.shape))  # type: ignore[arg-type]
        for contact in data.contact[: data.ncon]:
            if floor in contact.geom and feet & set(contact.geom):
                found.add(round(float(contact.friction[0]), 6))
    return found


@pytest.mark.parametrize(("task", "own"), [("Hopper-v5", 2.0), ("Walker2d-v5", 1.9)])
def test_the_friction_sets_change_the_contact_of_feet(task: str, own: float) -> None:
    plain = Perturbed(gym.make(task))
    assert _foot_friction(plain) == {own}
    for value in (0.1, 1.0, 3.0):
        assert _foot_friction(Perturbed(gym.make(task), {"friction:floor": value})) == {value}
    published = Perturbed(gym.make(task), {"friction:floor": 0.1}, "published")
    assert _foot_friction(published) == {own}, "MuJoCo takes the larger of the two"
