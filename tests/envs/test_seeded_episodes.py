"""Environments whose state cannot be seen are saved between episodes, which are functions of seed and number."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
from saving_oracle import actions_of, differences, through_json
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from entroreg.envs.saving import (
    CannotSaveError,
    SeededEpisodes,
    WithinEpisodeError,
    environment_state,
    load_environment_state,
)
from entroreg.envs.tasks import make_task


def _dm(seed: int = 5) -> SeededEpisodes:
    return SeededEpisodes(make_task("dm_control/cartpole-swingup-v0"), seed)


def _episode(env: Any, steps: int = 30) -> list[Any]:
    """Return what is seen in an episode that has begun."""
    return [env.step(action)[:4] for action in actions_of(env, steps, 7)]


def test_dm_control_between_episodes() -> None:
    """As far as an episode is a function of its seed, also one that came after others."""
    first = Monitor(_dm())
    for steps in (11, 7):
        first.reset()
        _episode(first, steps)
    first.reset()
    state = through_json(environment_state(first))
    second = Monitor(_dm(seed=0))
    second.reset(seed=77)
    _episode(second, 4)
    load_environment_state(second, state)
    assert environment_state(second)["attributes"]["env"] == {"kind": "episode", "place": {"seed": 5, "episode": 3}}
    assert differences(_episode(first), _episode(second)) == {}
    assert differences(first.reset(), second.reset()) == {}
    assert differences(_episode(first), _episode(second)) == {}


def test_episodes_are_functions_of_seed_and_number() -> None:
    def begun(seed: int, number: int) -> list[float]:
        env = SeededEpisodes(gym.make("CartPole-v1"), seed)
        observations = [env.reset()[0] for _ in range(number)]
        return observations[-1].tolist()

    assert begun(3, 4) == begun(3, 4)
    assert len({tuple(begun(seed, number)) for seed in (0, 1) for number in (1, 2, 3)}) == 6
    env = SeededEpisodes(gym.make("CartPole-v1"), 9)
    env.reset()
    assert env.reset(seed=3)[0].tolist() == begun(3, 1)
    assert env.reset()[0].tolist() == begun(3, 2)


def test_within_an_episode_nothing_is_saved() -> None:
    env = DummyVecEnv([lambda: Monitor(SeededEpisodes(gym.make("CartPole-v1")))])
    env.reset()
    assert env.envs[0].get_wrapper_attr("fresh")
    environment_state(env)
    env.step([0])
    assert not env.envs[0].get_wrapper_attr("fresh")
    with pytest.raises(WithinEpisodeError) as found:
        environment_state(env)
    assert str(found.value) == "an environment in SeededEpisodes is saved between two episodes, not within one"
    for _ in range(200):
        _, _, done, _ = env.step([0])
        if done[0]:
            break
    environment_state(env)  # the next one has begun


def test_options_of_an_episode_are_not_saved() -> None:
    env = SeededEpisodes(gym.make("CartPole-v1"))
    env.reset(options={"low": -0.1, "high": 0.1})
    with pytest.raises(CannotSaveError) as found:
        environment_state(env)
    assert str(found.value) == "an episode of SeededEpisodes that is saved must be begun without options"


def test_a_spec_makes_the_wrapper_again() -> None:
    env = SeededEpisodes(gym.make("CartPole-v1"), seed=4)
    again = gym.make(env.spec)
    assert again.reset()[0].tolist() == env.reset()[0].tolist()
