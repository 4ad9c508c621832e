"""The callback that saves a training and goes on with it: how it may be used, and what it says where it cannot."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her import HerReplayBuffer

from entroreg.agents import SAC, DiscreteSAC, ResumableTraining
from entroreg.agents.engine.captured import DeviceTable
from entroreg.agents.replay_tables import ReplayTables
from entroreg.agents.training_checkpoint import TrainingCheckpoint
from entroreg.checkpoint import load_checkpoint
from entroreg.envs.saving import CannotSaveError, SeededEpisodes

Build = Callable[..., Any]
Differences = Callable[[Any, Any], dict[str, float]]


def _steps(folder: Path) -> int:
    return int(load_checkpoint(folder)[1]["num_timesteps"])


def _same(ours: Any, theirs: Any, differences: Differences) -> bool:
    alike = set(differences(ours, theirs).values()) == {0.0}
    buffers = ours.replay_buffer, theirs.replay_buffer
    return (
        alike
        and np.array_equal(*(buffer.observations for buffer in buffers))
        and ours._last_obs == pytest.approx(theirs._last_obs, abs=0)
    )


def test_when_it_saves(build: Build, tmp_path: Path) -> None:
    saved: list[int] = []
    agent = build(SAC, train_freq=4)
    training = ResumableTraining(tmp_path / "last", 10, notes=lambda: saved.append(agent.num_timesteps) or {})
    agent.learn(60, training)
    assert saved == [12, 20, 32, 40, 52]  # the first rollouts that begin at a multiple of 10 or later
    assert not training.stopping
    agent.learn(30, training)  # counts anew
    assert saved[5:] == [12, 20]
    agent.learn(30, training, reset_num_timesteps=False)
    assert saved[7:] == [40, 52, 60]


def test_a_stop_saves_and_ends(build: Build, tmp_path: Path) -> None:
    agent = build(SAC)
    training = ResumableTraining(tmp_path / "last", 1000, stop=lambda: agent.num_timesteps >= 35)
    agent.learn(60, training)
    assert training.stopping
    assert _steps(tmp_path / "last") == 35


def test_a_training_in_two_calls_goes_on(build: Build, differences: Differences, tmp_path: Path) -> None:
    whole = build(SAC).learn(30).learn(30, reset_num_timesteps=False)
    agent = build(SAC).learn(30)
    agent.learn(30, ResumableTraining(tmp_path / "last", 45), reset_num_timesteps=False)
    assert _steps(tmp_path / "last") == 45
    other = build(SAC, seed=3)
    other.learn(60, ResumableTraining(tmp_path / "last", 45, resume_from=tmp_path / "last"))
    assert other.num_timesteps == 60
    assert _same(other, whole, differences)


def test_a_checkpoint_is_loaded_once_only(build: Build, tmp_path: Path) -> None:
    build(SAC).learn(30, ResumableTraining(tmp_path / "last", 20))
    agent = build(SAC)
    training = ResumableTraining(tmp_path / "more", 1000, resume_from=tmp_path / "last")
    agent.learn(30, training)
    assert training.n_calls == 30 - 20
    agent.learn(15, training, reset_num_timesteps=False)
    assert training.n_calls == 30 - 20 + 15


def test_more_steps_than_at_first(build: Build, differences: Differences, tmp_path: Path) -> None:
    whole = build(SAC).learn(80)
    build(SAC).learn(50, ResumableTraining(tmp_path / "last", 40))
    other = build(SAC, seed=3).learn(80, ResumableTraining(tmp_path / "last", 1000, resume_from=tmp_path / "last"))
    assert _same(other, whole, differences)


@pytest.mark.parametrize("steps", [50, 40])
def test_a_training_that_has_ended_is_left_as_it_is(
    steps: int, build: Build, differences: Differences, tmp_path: Path
) -> None:
    agent = build(SAC)
    training = ResumableTraining(tmp_path / "last", 1000)
    agent.learn(50, training)
    training.checkpoint.save({"name": "value"})
    state = random.getstate(), torch.get_rng_state()
    other, again = build(SAC, seed=3), ResumableTraining(tmp_path / "more", 10, resume_from=tmp_path / "last")
    other.learn(steps, again)
    assert _same(other, agent, differences)
    assert other.num_timesteps == 50
    assert other.replay_buffer.pos == 50
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    assert not (tmp_path / "more").exists()
    assert (again.stopping, again.notes_found) == (False, {"name": "value"})


def test_one_callback_for_two_agents(build: Build, differences: Differences, tmp_path: Path) -> None:
    training = ResumableTraining(tmp_path / "last", 30)
    build(SAC, seed=1).learn(40, training)
    second = build(SAC, seed=2)
    second.learn(40, training)
    other = build(SAC, seed=3).learn(40, ResumableTraining(tmp_path / "x", 99, resume_from=tmp_path / "last"))
    assert _same(other, second, differences)


def test_beside_other_callbacks_in_either_order(build: Build, differences: Differences, tmp_path: Path) -> None:
    def evaluation() -> EvalCallback:
        return EvalCallback(Monitor(gym.make("Pendulum-v1")), n_eval_episodes=1, eval_freq=20, verbose=0)

    whole = build(SAC).learn(60, evaluation())
    for order in (1, -1):
        folder = tmp_path / str(order)
        build(SAC).learn(45, [evaluation(), ResumableTraining(folder, 40)][::order])
        other = build(SAC, seed=3)
        other.learn(60, [evaluation(), ResumableTraining(folder, 40, resume_from=folder)][::order])
        assert _same(other, whole, differences)


def test_rows_that_are_changed_in_place_are_saved(build: Build, tmp_path: Path) -> None:
    agent = build(SAC)
    training = ResumableTraining(tmp_path / "last", 1000)
    agent.learn(40, training)
    training.checkpoint.save()
    agent.replay_buffer.rewards[7] = 123.0
    training.checkpoint.save()
    agent.replay_buffer.rewards[7] = 0.0
    training.checkpoint.load()
    assert agent.replay_buffer.rewards[7] == 123.0


def test_a_buffer_that_is_exchanged_is_saved(build: Build, tmp_path: Path) -> None:
    build(SAC, seed=5, engine="eager").learn(60).save_replay_buffer(tmp_path / "buffer.pkl")
    agent = build(SAC, engine="eager")
    training = ResumableTraining(tmp_path / "last", 1000)
    agent.learn(40, training)
    training.checkpoint.save()
    agent.load_replay_buffer(tmp_path / "buffer.pkl")
    training.checkpoint.save()
    expected = agent.replay_buffer.observations.copy()
    agent.replay_buffer.reset()
    agent.replay_buffer.observations[:] = 0.0
    training.checkpoint.load()
    assert agent.replay_buffer.pos == 60
    assert np.array_equal(agent.replay_buffer.observations, expected)


def test_copies_of_the_rows_on_a_device_are_renewed(build: Build, tmp_path: Path) -> None:
    agent = build(SAC, engine="auto", buffer_size=50)
    training = ResumableTraining(tmp_path / "last", 1000)
    agent.learn(70, training)
    training.checkpoint.save()
    table = DeviceTable(agent.replay_buffer, torch.device("cpu"))
    agent.learn(30, reset_num_timesteps=False)
    table.refresh()
    training.checkpoint.load()
    assert table.refresh() == 50
    assert torch.equal(table.rows, agent.replay_buffer.rows)


def test_going_back_to_an_older_checkpoint(build: Build, differences: Differences, tmp_path: Path) -> None:
    whole = build(SAC).learn(60)
    agent = build(SAC)
    agent.learn(55, ResumableTraining(tmp_path / "last", 10, keep=3))
    older = tmp_path / "last.previous.3"
    assert [_steps(path) for path in sorted(tmp_path.iterdir())] == [50, 40, 30, 20]
    agent.learn(60, ResumableTraining(tmp_path / "other", 1000, resume_from=older))
    assert _same(agent, whole, differences)


class Unseen(gym.Env[Any, Any]):
    observation_space = action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count: Iterator[int] = itertools.count(int(self.np_random.integers(5)))
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        at = next(self.count)
        return np.full(1, at / 20, np.float32), float(action[0]) * at, False, at == 16, {}


def test_an_environment_that_cannot_be_saved_is_refused_at_once(build: Build, tmp_path: Path) -> None:
    agent = build(SAC, Unseen())
    with pytest.raises(CannotSaveError, match=r"count must be plain data, got itertools\.count"):
        agent.learn(60, ResumableTraining(tmp_path / "last", 50))
    assert agent.num_timesteps == 0


def test_episodes_that_never_begin_together_are_told(build: Build, tmp_path: Path) -> None:
    def make(limit: int) -> Callable[[], gym.Env[Any, Any]]:
        return lambda: Monitor(gym.wrappers.TimeLimit(SeededEpisodes(Unseen(), limit), limit))

    agent = build(SAC, DummyVecEnv([make(7), make(8)]))
    training = ResumableTraining(tmp_path / "last", 10)
    with pytest.warns(UserWarning, match="no checkpoint could be written since step 0: environments in Seeded"):
        agent.learn(100, training)
    assert not (tmp_path / "last").exists()


def test_what_is_not_a_training_of_ours(build: Build, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"must be entroreg's SAC or DiscreteSAC, got stable_baselines3\.sac"):
        build(stable_baselines3.SAC).learn(10, ResumableTraining(tmp_path / "last", 10))
    agent = build(SAC)
    for use in (TrainingCheckpoint.save, TrainingCheckpoint.load):
        with pytest.raises(
            RuntimeError, match="must be in learn to be saved or loaded, got one that has not begun"
        ):
            use(TrainingCheckpoint(agent, tmp_path / "last"))
    agent.save(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match="must have an environment to be trained in, got none: use set_env"):
        TrainingCheckpoint(SAC.load(tmp_path / "agent.zip"), tmp_path / "last")
    for name in ("every", "keep"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            ResumableTraining(tmp_path / "last", **{"every": 1, "keep": 1, name: 0})
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        agent.learn(10, ResumableTraining(tmp_path / "last", 10, resume_from=tmp_path / "none"))


def test_a_checkpoint_of_another_training_is_refused(build: Build, tmp_path: Path) -> None:
    build(SAC).learn(20, ResumableTraining(tmp_path / "last", 10))

    def go_on(agent: Any) -> None:
        agent.learn(20, ResumableTraining(tmp_path / "other", 10, resume_from=tmp_path / "last"))

    for other, message in (
        (build(DiscreteSAC, "CartPole-v1"), "holds a SAC, expected a DiscreteSAC"),
        (build(SAC, policy_kwargs={"net_arch": [8]}), "do not fit this agent"),
        (build(SAC, gym.wrappers.TimeAwareObservation(gym.make("Pendulum-v1"))), "make the array as it was"),
        (build(SAC, gym.wrappers.ClipReward(gym.make("Pendulum-v1"), 0.0, 1.0)), "must be"),
        (build(SAC, buffer_size=10), "make the array as large as it was then"),
        (build(SAC, engine="eager"), "must have a table"),
    ):
        with pytest.raises(ValueError, match=message):
            go_on(other)


def test_infos_of_each_step_are_refused(build: Build) -> None:
    class Goal(gym.Env[Any, Any]):
        observation_space = spaces.Dict(
            dict.fromkeys(("observation", "achieved_goal", "desired_goal"), spaces.Box(0, 1, (1,)))
        )
        action_space = spaces.Box(-1.0, 1.0, (1,))

    settings = {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"copy_info_dict": True}}
    agent = build(SAC, Goal(), "MultiInputPolicy", **settings)
    with pytest.raises(ValueError, match="must hold numbers to be saved, got infos of each step"):
        ReplayTables(agent.replay_buffer)
