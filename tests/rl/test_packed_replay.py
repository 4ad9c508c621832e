"""The packed replay buffer against Stable-Baselines3's: the same adds and the same seed, the same batches."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from entroreg.agents import SAC
from entroreg.agents.packed_replay import PackedReplayBuffer, can_pack

ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
FIELDS = ("observations", "actions", "next_observations", "dones", "rewards")
Build = Callable[..., Any]


def _buffers(
    size: int = 20, envs: int = 1, width: int = 3, actions: int = 2, dtype: Any = np.float32
) -> tuple[PackedReplayBuffer, ReplayBuffer]:
    """A packed buffer and Stable-Baselines3's, both empty."""
    spaces_ = spaces.Box(-10.0, 10.0, (width,), dtype), spaces.Box(-1.0, 1.0, (actions,), dtype)
    theirs = ReplayBuffer(size * envs, *spaces_, device="cpu", n_envs=envs)
    assert can_pack(theirs)
    return PackedReplayBuffer.like(theirs), theirs


def _add(buffers: Any, count: int, seed: int = 0) -> None:
    """Add the same transitions to buffers: some end, some by a time limit."""
    rng = np.random.default_rng(seed)
    envs, width, actions = buffers[0].n_envs, buffers[0].obs_shape[0], buffers[0].action_dim
    for _ in range(count):
        observations = rng.normal(size=(2, envs, width)).astype(buffers[0].observation_space.dtype)
        taken = rng.uniform(-1.0, 1.0, (envs, actions))
        rewards, dones = rng.normal(size=envs), rng.random(envs) < 0.4
        infos = [{"TimeLimit.truncated": bool(done and rng.random() < 0.5)} for done in dones]
        for buffer in buffers:
            buffer.add(*observations.copy(), taken.copy(), rewards.copy(), dones.copy(), infos)


def _sample(buffer: Any, size: int = 64, seed: int = 1, **arguments: Any) -> tuple[Any, Any]:
    np.random.seed(seed)
    batch = buffer.sample(size, **arguments)
    return batch, np.random.get_state()[1:3]


def _assert_same_batches(ours: Any, theirs: Any, *, rtol: float = 0.0, **arguments: Any) -> None:
    (first, state), (second, their_state) = _sample(ours, **arguments), _sample(theirs, **arguments)
    np.testing.assert_array_equal(state[0], their_state[0])
    assert state[1] == their_state[1]
    for field in FIELDS:
        one, other = getattr(first, field), getattr(second, field)
        assert one.shape == other.shape
        assert one.dtype == torch.float32
        # Stable-Baselines3 gives float64 observations as such; its policies cast them to float32.
        np.testing.assert_allclose(one.numpy(), other.float().numpy(), rtol=rtol, atol=rtol)
    assert first.discounts is second.discounts is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize("count", [1, 7, 20, 33, 41])
def test_batches_are_theirs(count: int, envs: int, dtype: Any) -> None:
    ours, theirs = pair = _buffers(envs=envs, dtype=dtype)
    _add(pair, count)
    assert (
        (ours.pos, ours.full, ours.size())
        == (theirs.pos, theirs.full, theirs.size())
        == (
            count % 20,
            count >= 20,
            min(count, 20),
        )
    )
    for name in ARRAYS:
        one, other = getattr(ours, name), getattr(theirs, name)
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other.astype(np.float32))
    _assert_same_batches(ours, theirs)


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 12),
    envs=st.integers(1, 4),
    width=st.integers(1, 5),
    actions=st.integers(1, 4),
    count=st.integers(1, 40),
    batch=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_batch_is_theirs(
    size: int, envs: int, width: int, actions: int, count: int, batch: int, seed: int, dtype: Any
) -> None:
    ours, theirs = pair = _buffers(size, envs, width, actions, dtype)
    _add(pair, count, seed)
    _assert_same_batches(ours, theirs, size=batch, seed=seed)


class _Spaces(gym.Env[np.ndarray, np.ndarray]):
    """Observations of a mean and a scale of their own; rewards of another scale."""

    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, dtype: Any) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._observation(), 7.0 * float(self.np_random.normal()), False, False, {}

    def _observation(self) -> np.ndarray:
        drawn = self.np_random.normal([1.0, -2.0, 0.0], [0.5, 3.0, 1.0])
        return drawn.astype(self.observation_space.dtype)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float32, 0.0), (np.float64, 1e-6)]
)  # it rounds float64 before it normalises
@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize("norms", [(True, True), (True, False), (False, True)])
def test_normalised_batches_are_theirs(norms: tuple[bool, bool], envs: int, dtype: Any, rtol: float) -> None:
    env = VecNormalize(
        DummyVecEnv([lambda: _Spaces(dtype)] * envs), norm_obs=norms[0], norm_reward=norms[1], clip_obs=2.0
    )
    env.seed(0)
    env.reset()
    for _ in range(50):
        env.step(np.zeros((envs, 2)))
    ours, theirs = pair = _buffers(envs=envs, dtype=dtype)
    _add(pair, 33)
    kept = ours.observations.copy()
    _assert_same_batches(ours, theirs, rtol=rtol, env=env)
    np.testing.assert_array_equal(ours.observations, kept)
    plain, normalised = (_sample(ours, **arguments)[0] for arguments in ({}, {"env": env}))
    assert torch.equal(plain.observations, normalised.observations) != norms[0]
    assert torch.equal(plain.rewards, normalised.rewards) != norms[1]
    assert torch.equal(plain.actions, normalised.actions)


def test_a_time_limit_is_no_end() -> None:
    ours, _ = _buffers(size=4)
    for done, truncated in ((False, False), (True, False), (True, True), (False, True)):
        info = {"TimeLimit.truncated": truncated}
        ours.add(np.zeros(3), np.zeros(3), np.zeros((1, 2)), np.zeros(1), np.array([done]), [info])
    batch = ours._get_samples(np.arange(4))
    assert batch.dones.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]
    assert ours.dones.flatten().tolist() == [0.0, 1.0, 1.0, 0.0]
    assert ours.timeouts.flatten().tolist() == [0.0, 0.0, 1.0, 1.0]


def test_what_is_written_to_an_array_is_sampled() -> None:
    ours, theirs = pair = _buffers(envs=2)
    _add(pair, 20)
    for buffer in pair:
        buffer.observations[3] = 9.0
        buffer.next_observations[:, 1] *= 2.0
        buffer.actions[::2] = -1.0
        buffer.rewards[5:7] += 100.0
        buffer.dones[:] = 1.0
        buffer.timeouts[0, 1] = 1.0
    _assert_same_batches(ours, theirs)
    assert float(_sample(ours, 500)[0].rewards.max()) > 50.0


def test_a_batch_is_a_copy() -> None:
    ours, _ = pair = _buffers()
    _add(pair, 20)
    batch, _ = _sample(ours)
    kept = copy.deepcopy(batch)
    for name in ARRAYS:
        getattr(ours, name)[:] = 5.0
    for field in FIELDS:
        assert torch.equal(getattr(batch, field), getattr(kept, field))
    batch.observations.zero_()
    assert float(ours.observations.min()) == 5.0


def _assert_whole(buffer: Any) -> None:
    """Its arrays are still columns of its one table."""
    assert type(buffer) is PackedReplayBuffer
    for name in ARRAYS:
        assert np.shares_memory(getattr(buffer, name), buffer.table), name
    buffer.rewards[0] = 123.0
    assert 123.0 in buffer.rows[:, -3]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda buffer: pickle.loads(pickle.dumps(buffer))])
def test_a_copy_is_whole_and_another(copied: Callable[[Any], Any]) -> None:
    ours, theirs = pair = _buffers(envs=3)
    _add(pair, 15)
    other = copied(ours)
    assert not np.shares_memory(other.table, ours.table)
    _assert_same_batches(other, theirs)
    _add((other, theirs), 12, seed=2)
    _assert_same_batches(other, theirs)
    assert ours.pos == 15
    _assert_whole(other)
    assert 123.0 not in ours.rewards
    small = len(pickle.dumps(ours))
    assert small < 1.5 * ours.table.nbytes + 5000  # the table alone, not its views as well


def test_reset_and_extend_are_theirs() -> None:
    ours, theirs = pair = _buffers()
    _add(pair, 25)
    for buffer in pair:
        buffer.reset()
    assert (ours.pos, ours.full, ours.size()) == (0, False, 0)
    rng = np.random.default_rng(0)
    observations, following, rewards = rng.normal(size=(6, 1, 3)), rng.normal(size=(6, 1, 3)), rng.normal(size=6)
    for buffer in pair:
        buffer.extend(observations, following, np.zeros((6, 1, 2)), rewards, np.zeros((6, 1)), [[{}]] * 6)
    assert ours.size() == 6
    _assert_same_batches(ours, theirs)


def test_an_agents_buffer_is_saved_and_loaded(build: Build) -> None:
    agent = build(SAC).learn(60)
    _assert_same_settings(agent.replay_buffer, build(SAC, engine="eager").replay_buffer)
    stored = io.BytesIO()
    agent.save_replay_buffer(stored)
    other = build(SAC, seed=1)
    stored.seek(0)
    other.load_replay_buffer(stored)
    _assert_same_batches(other.replay_buffer, agent.replay_buffer)
    other.learn(40)
    assert other.replay_buffer.pos == 100
    _assert_whole(other.replay_buffer)
    theirs = build(stable_baselines3.SAC)
    stored.seek(0)
    theirs.load_replay_buffer(stored)
    _assert_same_batches(theirs.replay_buffer, agent.replay_buffer)
    assert theirs.learn(40)._n_updates == 20


def test_their_saved_buffer_loads(build: Build) -> None:
    theirs = build(stable_baselines3.SAC).learn(60)
    stored = io.BytesIO()
    theirs.save_replay_buffer(stored)
    stored.seek(0)
    ours = build(SAC)
    ours.load_replay_buffer(stored)
    assert type(ours.replay_buffer) is ReplayBuffer
    assert ours.learn(40).replay_buffer.pos == 100
    np.testing.assert_array_equal(ours.replay_buffer.observations[:60], theirs.replay_buffer.observations[:60])


def _assert_same_settings(packed: Any, plain: Any) -> None:
    assert type(packed) is PackedReplayBuffer
    assert type(plain) is ReplayBuffer
    for name in ("buffer_size", "n_envs", "device", "obs_shape", "action_dim", "handle_timeout_termination"):
        assert getattr(packed, name) == getattr(plain, name)


class _Own(ReplayBuffer):
    pass


BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize(
    ("buffer", "observations", "actions", "arguments"),
    [
        (ReplayBuffer, spaces.Box(0, 255, (1, 8, 8), np.uint8), BOX, {}),
        (ReplayBuffer, spaces.Box(-1.0, 1.0, (2, 3), np.float32), BOX, {}),
        (ReplayBuffer, spaces.Box(0, 255, (3,), np.uint8), BOX, {}),
        (ReplayBuffer, spaces.Box(-1.0, 1.0, (3,), np.float16), BOX, {}),
        (ReplayBuffer, spaces.Discrete(3), BOX, {}),
        (ReplayBuffer, spaces.MultiDiscrete([2, 3]), BOX, {}),
        (ReplayBuffer, spaces.MultiBinary(3), BOX, {}),
        (ReplayBuffer, BOX, spaces.Discrete(3), {}),
        (ReplayBuffer, BOX, BOX, {"optimize_memory_usage": True, "handle_timeout_termination": False}),
        (ReplayBuffer, BOX, BOX, {"handle_timeout_termination": False}),
        (DictReplayBuffer, spaces.Dict({"a": BOX}), BOX, {}),
        (NStepReplayBuffer, BOX, BOX, {}),
        (_Own, BOX, BOX, {}),
    ],
)
def test_others_are_not_packed(buffer: Any, observations: Any, actions: Any, arguments: Any) -> None:
    assert not can_pack(buffer(10, observations, actions, device="cpu", **arguments))


def test_a_packed_buffer_is_not_packed_again() -> None:
    assert not can_pack(_buffers()[0])
    assert not can_pack(None)


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_which_buffer_an_agent_gets(engine: str, build: Build) -> None:
    assert type(build(SAC, engine=engine).replay_buffer) is PackedReplayBuffer
    for cls in (ReplayBuffer, _Own):  # asked for
        assert type(build(SAC, engine=engine, replay_buffer_class=cls).replay_buffer) is cls
    assert type(build(SAC, engine=engine, n_steps=3).replay_buffer) is NStepReplayBuffer
    assert type(build(SAC, engine="eager").replay_buffer) is ReplayBuffer
    zipped = io.BytesIO()
    build(SAC, engine=engine).save(zipped)
    zipped.seek(0)
    assert type(SAC.load(zipped, env=gym.make("Pendulum-v1")).replay_buffer) is PackedReplayBuffer
    zipped.seek(0)
    theirs = stable_baselines3.SAC.load(zipped, env=gym.make("Pendulum-v1"))
    assert type(theirs.replay_buffer) is ReplayBuffer
