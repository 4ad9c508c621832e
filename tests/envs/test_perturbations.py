"""Perturbed tasks: undone to the last bit, seeded, and clear about what they refuse."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from entroreg.envs import Perturbed, Randomised, Range, UncertaintySet, find_set, make_task
from entroreg.envs.perturbations import set_parameter
from entroreg.envs.tasks import mujoco_of
from entroreg.envs.uncertainty_sets import SETS

TASKS = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "InvertedPendulum-v5")
DM = "dm_control/cartpole-swingup-v0"


def _make(task: str) -> Any:
    if task == DM:
        pytest.importorskip("shimmy")
    return make_task(task)


def _bytes(env: Any) -> np.ndarray:
    model, _ = mujoco_of(env)
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer


def _first_names(env: Any) -> list[str]:
    model, _ = mujoco_of(env)
    body = next(i for i in range(1, model.nbody) if model.body(i).name and model.body_mass[i] > 0)
    return [
        f"mass:{model.body(body).name}",
        "friction",
        f"friction:{model.geom(0).name}",
        "damping",
        f"damping:{model.joint(0).name or 0}",
        "gain",
        f"gain:{model.actuator(0).name or 0}",
        "gravity",
    ]


@pytest.mark.parametrize("task", [*TASKS, DM])
def test_after_undo_the_model_is_the_same_to_the_last_bit(task: str) -> None:
    env = Perturbed(_make(task))
    before = _bytes(env)
    for name in _first_names(env):
        for physics in ("correct", "published"):
            env._physics = physics
            env.perturb({name: 0.37})
            assert not np.array_equal(_bytes(env), before), name
            env.undo()
            assert np.array_equal(_bytes(env), before), name
            assert env.values == {}


_HOPPER = Perturbed(gym.make("Hopper-v5"))
_HOPPER_BYTES = _bytes(_HOPPER)
_NAMES = st.sampled_from(["mass:torso", "mass:foot", "friction", "friction:floor", "damping", "gain:0", "gravity"])


@given(st.lists(st.dictionaries(_NAMES, st.floats(0.01, 30.0), min_size=1), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_perturbations_are_undone(values: list[dict[str, float]]) -> None:
    for one in values:
        _HOPPER.perturb(one)
    last = _bytes(_HOPPER)
    _HOPPER.perturb(values[-1])
    assert np.array_equal(_bytes(_HOPPER), last), "a perturbation replaces the one before, whatever that was"
    _HOPPER.undo()
    assert np.array_equal(_bytes(_HOPPER), _HOPPER_BYTES)


def test_what_the_task_writes_into_its_model_outlives_undo() -> None:
    pytest.importorskip("shimmy")
    env = Perturbed(make_task("dm_control/reacher-easy-v0"), {"mass:arm": 1.0})
    env.reset(seed=0)
    model, _ = mujoco_of(env)
    goal = np.array(model.geom("target").pos)
    assert np.any(goal[:2] != 0.0)
    env.undo()
    assert np.array_equal(model.geom("target").pos, goal)
    assert model.body("arm").mass == env.nominal_value("mass:arm") != 1.0


@pytest.mark.parametrize("order", [("floor", "foot_geom"), ("foot_geom", "floor")])
def test_geoms_that_are_named_together_keep_their_own_friction(order: tuple[str, str]) -> None:
    values = {"floor": 1.0, "foot_geom": 0.1}
    env = Perturbed(gym.make("Hopper-v5"), {f"friction:{geom}": values[geom] for geom in order})
    model, _ = mujoco_of(env)
    assert {geom: model.geom(geom).friction[0] for geom in values} == values


def test_an_undone_task_runs_as_the_plain_one() -> None:
    perturbed, plain = Perturbed(gym.make("Hopper-v5"), {"mass:torso": 9.0, "delay": 3}), gym.make("Hopper-v5")
    perturbed.reset(seed=1)
    for _ in range(5):
        perturbed.step(np.ones(3, np.float32))
    perturbed.undo()
    mine, theirs = perturbed.reset(seed=4)[0], plain.reset(seed=4)[0]
    rng = np.random.default_rng(0)
    for _ in range(40):
        assert np.array_equal(mine, theirs)
        action = rng.uniform(-1, 1, 3).astype(np.float32)
        mine, theirs = perturbed.step(action)[0], plain.step(action)[0]


def test_a_refused_perturbation_leaves_the_task_as_it_was() -> None:
    env = Perturbed(gym.make("Hopper-v5"), {"mass:torso": 9.0})
    with pytest.raises(ValueError, match="unknown target of mass 'tors'"):
        env.perturb({"mass:foot": 3.0, "mass:tors": 1.0})
    assert np.array_equal(_bytes(env), _HOPPER_BYTES)
    assert env.values == {}


def test_a_delayed_action_arrives_that_many_steps_later() -> None:
    seen: list[float] = []

    class Watched(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            seen.append(float(action[0]))
            return self.env.step(action)

    env = Perturbed(Watched(gym.make("InvertedPendulum-v5")), {"delay": 2})
    for _ in range(2):  # nothing of an episode arrives in the next one
        seen.clear()
        env.reset(seed=0)
        for action in (0.1, 0.2, 0.3, 0.4):
            env.step(np.array([action], np.float32))
        assert seen == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_noise_is_seeded_and_has_the_stated_size() -> None:
    def episode(seed: int, sizes: dict[str, float]) -> np.ndarray:
        env = Perturbed(gym.make("HalfCheetah-v5"), sizes)
        rows = [env.reset(seed=seed)[0]]
        rows += [env.step(np.zeros(6, np.float32))[0] for _ in range(200)]
        return np.array(rows)

    clean, noisy = episode(3, {}), episode(3, {"observation_noise": 0.3})
    assert np.array_equal(noisy, episode(3, {"observation_noise": 0.3}))
    assert not np.array_equal(noisy - clean, episode(4, {"observation_noise": 0.3}) - episode(4, {}))
    noise = noisy - clean
    assert float(np.std(noise)) == pytest.approx(0.3, rel=0.05)
    assert abs(float(np.mean(noise))) < 0.02
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.06, "independent from step to step"


def test_action_noise_is_in_halves_of_the_range_and_stays_inside() -> None:
    seen: list[float] = []

    class Watched(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            seen.append(float(action[0]))
            return self.env.step(action)

    env = Perturbed(Watched(gym.make("InvertedPendulum-v5", reset_noise_scale=0.0)), {"action_noise": 0.1})
    env.reset(seed=0)
    for _ in range(600):
        env.step(np.zeros(1, np.float32))
    assert np.std(seen) == pytest.approx(0.1 * 3.0, rel=0.1)  # actions are in [-3, 3]
    env.perturb({"action_noise": 50.0})
    seen.clear()
    for _ in range(50):
        env.step(np.zeros(1, np.float32))
    assert max(map(abs, seen)) == 3.0


def test_draws_are_uniform_in_the_set_and_seeded() -> None:
    env = Randomised(gym.make("Hopper-v5"), find_set("Hopper-v5", "rrls-3"))
    drawn = []
    for seed in range(200):
        env.reset(seed=seed)
        drawn.append(dict(env.values))
        assert float(env.unwrapped.model.body_mass[1]) == env.values["mass:torso"]
    for name, low, high in (("friction:floor", 0.1, 3.0), ("mass:torso", 0.1, 3.0), ("mass:thigh", 0.1, 4.0)):
        values = np.array([one[name] for one in drawn])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.15 * (high - low))
    env.reset(seed=7)
    assert env.values == drawn[7]
    env.reset()
    assert env.values != drawn[7], "a further episode has other values"


BAD = {
    "mas:torso": r"unknown parameter 'mas': did you mean 'mass'",
    "mass:tors": r"unknown target of mass 'tors': did you mean 'torso'",
    "friction:flor": r"unknown target of friction 'flor': did you mean 'floor'",
    "damping:hip": r"unknown target of damping 'hip'",
    "mass": r"mass needs a target, such as mass:torso",
    "gravity:z": r"gravity has no target, got 'gravity:z': leave ':z' out",
    "mass:world": r"unknown target of mass 'world'",
    "observation_nois": r"unknown parameter 'observation_nois': did you mean 'observation_noise'",
}


@pytest.mark.parametrize("name", BAD)
def test_unknown_names_are_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match=BAD[name]):
        Perturbed(gym.make("Hopper-v5"), {name: 1.0})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mass:torso", -1.0, "mass:torso must be finite and at least 0, got -1.0"),
        ("mass:torso", 0.0, "mass:torso must be above 0, got 0.0"),
        ("mass:torso", float("nan"), "mass:torso must be finite"),
        ("friction", -0.1, "friction must be finite and at least 0, got -0.1"),
        ("delay", 1.5, "delay must be a whole number of control steps, got 1.5"),
        ("observation_noise", -1.0, "observation_noise must be finite and at least 0, got -1.0"),
    ],
)
def test_values_that_no_physics_has(name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Perturbed(gym.make("Hopper-v5"), {name: value})


def test_what_is_not_mujoco_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected an environment on MuJoCo, got .*its physics cannot be changed"):
        Perturbed(gym.make("Pendulum-v1"))
    with pytest.raises(TypeError, match="mass:torso must be a number, got str"):
        Perturbed(gym.make("Hopper-v5"), {"mass:torso": "5"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"physics must be one of \['correct', 'published'\], got 'right'"):
        Perturbed(gym.make("Hopper-v5"), {}, "right")


def test_a_model_that_is_compiled_anew_for_each_episode_is_refused() -> None:
    pytest.importorskip("shimmy")
    with pytest.raises(TypeError, match="composer task of dm_control, whose model is compiled anew"):
        Perturbed(make_task("dm_control/reach_site_features-v0"))


def test_a_drawn_delay_is_a_whole_number_of_steps() -> None:
    env = Randomised(gym.make(TASKS[0]), UncertaintySet((Range("delay", 0, 3),)))
    drawn = []
    for seed in range(40):
        env.reset(seed=seed)
        drawn.append(env.values["delay"])
    assert set(drawn) == {0.0, 1.0, 2.0, 3.0}
    with pytest.raises(ValueError, match=r"delay must be a whole number of control steps, got 2\.5"):
        Randomised(gym.make(TASKS[0]), UncertaintySet((Range("delay", 0, 2.5),)))


def test_a_body_without_mass_is_refused() -> None:
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body name='b'/></worldbody></mujoco>")
    with pytest.raises(ValueError, match="body b has no mass, so nothing says how its inertia would grow"):
        set_parameter(model, "mass:b", 1.0)


REGISTERED = {
    "Perturbed": {"task": "Hopper-v5", "values": {"mass:torso": 5.0, "delay": 2, "observation_noise": 0.1}},
    "Randomised": {"task": "Hopper-v5", "uncertainty_set": "rrls-2"},
    "Protagonist": {"task": "Walker2d-v5"},
    "Adversary": {"task": "InvertedPendulum-v5", "limit": 7.0},
    "Windy": {},
}


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")  # so it is, and is meant to be
@pytest.mark.filterwarnings("ignore:.*A Box observation space")  # that of the tasks themselves
@pytest.mark.parametrize("name", REGISTERED)
def test_registered_environments_pass_gymnasiums_check(name: str) -> None:
    check_env(gym.make(f"entroreg/{name}-v0", **REGISTERED[name]), skip_render_check=True)


def test_registered_environments_are_vectorised() -> None:
    envs = gym.make_vec("entroreg/Randomised-v0", num_envs=2, vectorization_mode="sync", **REGISTERED["Randomised"])
    envs.reset(seed=3)
    one, other = (dict(env.get_wrapper_attr("values")) for env in envs.envs)  # type: ignore[attr-defined]
    assert one != other
    observations, *_ = envs.step(envs.action_space.sample())
    assert observations.shape == (2, 11)
    envs.close()


def test_importing_the_package_loads_no_mujoco() -> None:
    code = (
        "import sys, gymnasium, entroreg.envs\n"
        "print('mujoco' in sys.modules, 'entroreg/Perturbed-v0' in gymnasium.registry)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("task", SETS)
def test_every_published_set_fits_its_task(task: str, capfd: pytest.CaptureFixture[str]) -> None:
    if task.startswith("dm_control/"):
        pytest.importorskip("shimmy")
    env = Perturbed(make_task(task))
    for one in SETS[task].values():
        for end in ("low", "high"):
            env.perturb({each.name: getattr(each, end) for each in one.ranges})


def test_ranges_and_sets_are_checked() -> None:
    with pytest.raises(ValueError, match=r"low end of mass:torso must be finite and at least 0, got -1\.0"):
        Range("mass:torso", -1.0, 2.0)
    with pytest.raises(ValueError, match=r"the range of mass:torso must not end below its begin, got 3\.0 to 2\.0"):
        Range("mass:torso", 3.0, 2.0)
    with pytest.raises(ValueError, match="must have ranges of different parameters"):
        UncertaintySet(())
    with pytest.raises(ValueError, match="must have ranges of different parameters"):
        UncertaintySet((Range("a", 0.0, 1.0), Range("a", 0.0, 2.0)))
    with pytest.raises(
        ValueError, match="unknown task of the uncertainty sets 'Hoper-v5': did you mean 'Hopper-v5'"
    ):
        find_set("Hoper-v5", "rrls-1")
    with pytest.raises(ValueError, match="unknown uncertainty set of Hopper-v5 'rrls-4': did you mean"):
        find_set("Hopper-v5", "rrls-4")
    published = find_set("Walker2d-v5", "rrls-3").ranges  # the table of RRLS
    assert [(one.name, one.low, one.high) for one in published] == [
        ("friction:floor", 0.1, 4.0),
        ("mass:torso", 0.1, 5.0),
        ("mass:thigh", 0.1, 6.0),
    ]
    assert find_set("HalfCheetah-v5", "rrls-1").ranges == (Range("friction", 0.1, 3.0),)
    assert find_set("HalfCheetah-v5", "rrls-2").ranges[0] == Range("friction", 0.1, 4.0)
