"""An environment that got the state of another one goes on as that one does, to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from saving_oracle import AFTER, CLOCK, actions_of, compare, future, leaves, saved_at, through_json
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

import entroreg.envs  # noqa: F401  (registers the tasks)
from entroreg import checkpoint
from entroreg.envs import MixedActions, ObservedParameters, ObservedTemperature, Perturbed, find_set
from entroreg.envs.saving import environment_state, load_environment_state
from entroreg.state_tree import split_state

MUJOCO = ("Ant-v5", "Humanoid-v5", "HalfCheetah-v5", "Hopper-v5", "InvertedPendulum-v5", "Walker2d-v5", "Pusher-v5")
SMALL = (
    *("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"),
    *("Taxi-v4", "Blackjack-v1", "FrozenLake-v1", "CliffWalking-v1"),
)
NOISY = {"mass:torso": 5.0, "delay": 3, "observation_noise": 0.01, "action_noise": 0.1}
EVERYWHERE = ((-100.0, 100.0), (-100.0, 100.0))
OURS: dict[str, dict[str, Any]] = {
    "entroreg/Navigation-v0": {},
    "entroreg/Perturbed-v0": {"task": "Hopper-v5", "values": NOISY},
    "entroreg/Randomised-v0": {"task": "Hopper-v5", "uncertainty_set": "rrls-2"},
    "entroreg/Protagonist-v0": {"task": "Hopper-v5"},
    "entroreg/Adversary-v0": {"task": "Hopper-v5"},
    "entroreg/Windy-v0": {"region": EVERYWHERE},
}
WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "TimeLimit": partial(wrappers.TimeLimit, max_episode_steps=17),
    "Monitor": Monitor,
    "NormalizeObservation": wrappers.NormalizeObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "FrameStackObservation": partial(wrappers.FrameStackObservation, stack_size=3),
    "RescaleAction": partial(wrappers.RescaleAction, min_action=np.float32(-3.0), max_action=np.float32(3.0)),
    "ClipAction": wrappers.ClipAction,
    "TimeAwareObservation": wrappers.TimeAwareObservation,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "StickyAction": partial(wrappers.StickyAction, repeat_action_probability=0.5),
    "DelayObservation": partial(wrappers.DelayObservation, delay=2),
    "TransformReward": partial(wrappers.TransformReward, func=lambda reward: 0.1 * reward),
    "FlattenObservation": wrappers.FlattenObservation,
}


def _in_monitor(env_id: str, **arguments: Any) -> gym.Env[Any, Any]:
    return Monitor(gym.make(env_id, **arguments))


@pytest.fixture(scope="module")
def require_exact(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[], Any], int], None]]:
    """Compare an environment with one that gets its state; print the totals at the end."""
    largest: list[float] = []

    def require(make: Callable[[], Any], steps: int) -> None:
        found = compare(make, steps)
        largest.append(found.largest)
        assert (found.at_once, found.later) == ({}, {})

    yield require
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():  # type: ignore[union-attr]
        print(f"\n{len(largest)} comparisons over {AFTER} steps each: largest difference {max(largest)}", end="")


@pytest.mark.parametrize("steps", [1, 13, 40])
@pytest.mark.parametrize("env_id", MUJOCO)
def test_mujoco(env_id: str, steps: int, require_exact: Any) -> None:
    require_exact(partial(_in_monitor, env_id), steps)


@pytest.mark.parametrize("env_id", ["Ant-v5", "Humanoid-v5", "Hopper-v5"])
def test_among_many_contacts(env_id: str, require_exact: Any) -> None:
    make = partial(_in_monitor, env_id, terminate_when_unhealthy=False)
    env, contacts = saved_at(make, 0), []
    for action in actions_of(env, 150, 3):
        contacts.append(env.unwrapped.data.ncon)
        env.step(action)
    assert max(contacts) >= {"Ant-v5": 2, "Humanoid-v5": 8, "Hopper-v5": 2}[env_id]
    steps = int(np.argmax(contacts))
    require_exact(make, steps)


@pytest.mark.parametrize("env_id", SMALL)
def test_small(env_id: str, require_exact: Any) -> None:
    require_exact(partial(_in_monitor, env_id), 11)


def test_right_after_a_reset(require_exact: Any) -> None:
    require_exact(partial(_in_monitor, "CartPole-v1"), 0)


@pytest.mark.parametrize("env_id", OURS)
def test_ours(env_id: str, require_exact: Any) -> None:
    require_exact(partial(_in_monitor, env_id, **OURS[env_id]), 23)


ADDED: dict[str, Callable[[Any], Any]] = {
    "ObservedParameters": lambda env: ObservedParameters(env, find_set("Hopper-v5", "rrls-2")),
    "ObservedTemperature": ObservedTemperature,
    "MixedActions": lambda env: MixedActions(env, 0.1),
}


@pytest.mark.parametrize("name", ADDED)
def test_our_wrappers(name: str, require_exact: Any) -> None:
    require_exact(lambda: Monitor(ADDED[name](gym.make("Hopper-v5"))), 23)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers(name: str, require_exact: Any) -> None:
    require_exact(lambda: WRAPPERS[name](gym.make("Pendulum-v1", max_episode_steps=50)), 30)


def test_all_wrappers_at_once(require_exact: Any) -> None:
    def make() -> gym.Env[Any, Any]:
        env: Any = Perturbed(gym.make("Hopper-v5"), NOISY)
        for name in ("RescaleAction", "ClipAction", "NormalizeObservation", "NormalizeReward", "TimeLimit"):
            env = WRAPPERS[name](env)
        return Monitor(WRAPPERS["FrameStackObservation"](env))

    require_exact(make, 25)


@pytest.mark.parametrize("name", ["plain", "VecNormalize", "VecFrameStack", "VecMonitor"])
def test_vectors(name: str, require_exact: Any) -> None:
    around = {"plain": lambda env: env, "VecNormalize": VecNormalize, "VecMonitor": VecMonitor}
    around["VecFrameStack"] = partial(VecFrameStack, n_stack=3)
    one = partial(_in_monitor, "Hopper-v5", max_episode_steps=20)
    inner = one if name != "VecMonitor" else partial(gym.make, "Hopper-v5", max_episode_steps=20)
    require_exact(lambda: around[name](DummyVecEnv([inner] * 3)), 33)


def test_what_shares_objects_is_saved_as_one() -> None:
    """An agent draws its first actions from a space that is the environment's own."""
    env = DummyVecEnv([partial(_in_monitor, "Pendulum-v1")])
    around = {"env": env, "action_space": env.action_space, "action_noise": None}
    env.action_space.seed(1)
    state = through_json(environment_state(around))
    expected = [env.action_space.sample() for _ in range(3)]
    load_environment_state(around, state)
    assert env.action_space is around["action_space"] is env.envs[0].action_space
    np.testing.assert_array_equal([env.action_space.sample() for _ in range(3)], expected)


def test_a_state_serves_twice() -> None:
    """Arrays of the state are copied, in both directions."""
    make = partial(_in_monitor, "CartPole-v1")
    first = saved_at(make, 5)
    state = environment_state(first)
    before = through_json(state)
    envs = [make() for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
        load_environment_state(env, state)
        future(env, 30)
    first.unwrapped.state[...] = 7.0
    assert repr(through_json(state)) == repr(before)


def test_in_a_new_process(tmp_path: Path) -> None:
    """What a checkpoint is for: the state goes through its files into another interpreter."""
    make = partial(_in_monitor, "Humanoid-v5", max_episode_steps=50)
    env = saved_at(make, 80)
    tensors, tree = split_state(environment_state(env))
    checkpoint.save_checkpoint(tmp_path / "state", tensors, {"tree": tree})
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import json, test_saving
test_saving.print_what_comes(sys.argv[1])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == what_comes(env)


def what_comes(env: Any) -> list[str]:
    """Return all that is seen in the steps to come, and the complete state after them, as bytes."""
    found = [item for path, item in leaves(future(env)).items() if not CLOCK.search(path)]
    return [np.asarray(item).tobytes().hex() if isinstance(item, np.ndarray) else repr(item) for item in found]


def print_what_comes(folder: str) -> None:
    """Print the same of a new environment that gets its state from a checkpoint."""
    from entroreg.state_tree import join_state

    env = _in_monitor("Humanoid-v5", max_episode_steps=50)
    env.reset(seed=0)
    tensors, metadata = checkpoint.load_checkpoint(Path(folder))
    load_environment_state(env, join_state(tensors, metadata["tree"]))
    print(json.dumps(what_comes(env)))
