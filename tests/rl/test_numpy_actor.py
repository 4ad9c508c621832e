"""Acting in NumPy against the actor in torch: the same observations, the same noise, the same actions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.sac.policies import Actor, CnnPolicy, MultiInputPolicy, SACPolicy
from torch import Tensor, nn

from entroreg.agents import SAC
from entroreg.agents.numpy_actor import LARGEST_BATCH, NumpyActor, can_run

Build = Callable[..., Any]
BOX = spaces.Box(-np.inf, np.inf, (5,), np.float32)
ACTIONS = spaces.Box(-1.0, 1.0, (3,), np.float32)
TOLERANCE = 1e-6  # for observations up to USUAL
USUAL = 10.0


def _actor(observations: Any = BOX, policy: Any = SACPolicy, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return policy(observations, ACTIONS, lambda _: 1e-3, **{"net_arch": [16, 16], **arguments}).actor


def _observations(count: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=(count, 5)).astype(np.float32)


def _assert_same(numpy_actor: NumpyActor, actor: Any, observations: np.ndarray, seed: int = 0) -> np.ndarray:
    """The actions of both from one seed, and the state that both leave to torch's generator."""
    kept = observations.copy()
    torch.manual_seed(seed)
    ours = numpy_actor.sample(observations)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    with torch.no_grad():
        theirs = actor(torch.as_tensor(observations)).numpy()
    assert torch.equal(state, torch.get_rng_state())
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (len(observations), 3)
    size = max(1.0, float(np.abs(observations).max()) / USUAL)  # sums round in proportion to what is summed
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=TOLERANCE * size)
    np.testing.assert_array_equal(observations, kept)
    assert float(np.abs(ours).max()) <= 1.0
    return ours


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("net_arch", [[], [16], [32, 24], [16, 8, 12, 16]], ids=str)
def test_its_actions_are_the_actors(net_arch: list[int], activation: Any) -> None:
    actor = _actor(net_arch=net_arch, activation_fn=activation)
    assert can_run(actor)
    numpy_actor = NumpyActor(actor)
    for count in range(1, LARGEST_BATCH + 1):
        _assert_same(numpy_actor, actor, _observations(count, count), seed=count)


@settings(deadline=None, max_examples=60)
@given(
    net_arch=st.lists(st.integers(1, 20), max_size=4),
    activation=st.sampled_from([nn.ReLU, nn.Tanh]),
    count=st.integers(1, 8),
    seed=st.integers(0, 2**31 - 1),
    scale=st.floats(0.01, 30.0),
)
def test_any_actions_are_the_actors(
    net_arch: list[int], activation: Any, count: int, seed: int, scale: float
) -> None:
    actor = _actor(net_arch=net_arch, activation_fn=activation)
    _assert_same(NumpyActor(actor), actor, _observations(count, seed, scale), seed)


@pytest.mark.parametrize(("bias", "spread"), [(5.0, 0.9), (-40.0, 0.0)])
def test_the_deviation_is_clipped_as_the_actors(bias: float, spread: float) -> None:
    actor = _actor()
    actor.log_std.bias.data.fill_(bias)
    actions = [_assert_same(NumpyActor(actor), actor, _observations(4), seed) for seed in range(20)]
    # exp(2) covers [-1, 1] after tanh; exp(-20) is no noise at all.
    assert float(np.std(actions, axis=0).mean()) == pytest.approx(spread, abs=0.1 if spread else 1e-6)


def test_observations_of_double_precision_are_rounded_first() -> None:
    actor = _actor()
    observations = np.random.default_rng(0).normal(size=(3, 5))
    torch.manual_seed(0)
    ours = NumpyActor(actor).sample(observations)
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = actor(torch.as_tensor(observations)).numpy()
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=TOLERANCE)


def test_actions_stay_as_they_were_given() -> None:
    numpy_actor = NumpyActor(_actor())
    first = numpy_actor.sample(_observations(2))
    kept = first.copy()
    numpy_actor.sample(_observations(2, seed=1))
    np.testing.assert_array_equal(first, kept)


def _in_place(actor: Any) -> None:
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.mul_(-1.5)


def _data(actor: Any) -> None:
    for parameter in actor.parameters():
        parameter.data = parameter.data * -1.5


def _one_bias(actor: Any) -> None:
    actor.log_std.bias.data = actor.log_std.bias.data + 2.0


def _there_and_back(actor: Any) -> None:
    actor.double()
    _in_place(actor)
    actor.to(torch.float32)


def _load(actor: Any) -> None:
    actor.load_state_dict({name: -1.5 * value for name, value in actor.state_dict().items()})


def _assign(actor: Any) -> None:
    actor.load_state_dict({name: -1.5 * value for name, value in actor.state_dict().items()}, assign=True)


def _step(actor: Any) -> None:
    loss = sum(parameter.square().sum() for parameter in actor.parameters())
    loss.backward()
    torch.optim.SGD(actor.parameters(), lr=1.0).step()


def _new_layer(actor: Any) -> None:
    actor.mu = nn.Linear(16, 3)


@pytest.mark.parametrize(
    "change", [_in_place, _data, _one_bias, _there_and_back, _load, _assign, _step, _new_layer]
)
def test_it_sees_other_weights(change: Callable[[Any], None]) -> None:
    actor = _actor()
    numpy_actor = NumpyActor(actor)
    before = _assert_same(numpy_actor, actor, _observations(4))
    for _ in range(2):
        change(actor)
        assert np.abs(_assert_same(numpy_actor, actor, _observations(4)) - before).max() > 1e-3


def test_a_deep_copy_acts_by_itself() -> None:
    actor = _actor()
    numpy_actor = NumpyActor(actor)
    other, other_numpy = copy.deepcopy((actor, numpy_actor))
    _in_place(other)
    _assert_same(numpy_actor, actor, _observations(4))
    _assert_same(other_numpy, other, _observations(4))


class _Extractor(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        return 2.0 * super().forward(observations)


class _OwnActor(Actor):
    def forward(self, obs: Any, deterministic: bool = False) -> Tensor:
        return 0.5 * super().forward(obs, deterministic)


class _OwnActorPolicy(SACPolicy):
    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        return _OwnActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


def _with_layers(*layers: nn.Module) -> Any:
    actor = _actor()
    actor.latent_pi = nn.Sequential(*layers)
    return actor


IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
OTHERS: dict[str, Callable[[], Any]] = {
    "an actor of one's own": lambda: _actor(policy=_OwnActorPolicy),
    "an extractor of one's own": lambda: _actor(features_extractor_class=_Extractor),
    "images": lambda: _actor(IMAGE, CnnPolicy),
    "flattened images": lambda: _actor(IMAGE),
    "Dict": lambda: _actor(spaces.Dict({"a": BOX}), MultiInputPolicy),
    "Discrete": lambda: _actor(spaces.Discrete(4)),
    "MultiDiscrete": lambda: _actor(spaces.MultiDiscrete([3, 4])),
    "MultiBinary": lambda: _actor(spaces.MultiBinary(4)),
    "two axes": lambda: _actor(spaces.Box(-1.0, 1.0, (2, 3), np.float32)),
    "gSDE": lambda: _actor(use_sde=True),
    "ELU": lambda: _actor(activation_fn=nn.ELU),
    "LeakyReLU": lambda: _actor(activation_fn=nn.LeakyReLU),
    "double": lambda: _actor().double(),
    "no bias": lambda: _with_layers(nn.Linear(5, 16, bias=False), nn.ReLU()),
    "another layer": lambda: _with_layers(nn.Linear(5, 16), nn.LayerNorm(16), nn.ReLU()),
    "no activation": lambda: _with_layers(nn.Linear(5, 16), nn.Linear(16, 16)),
    "no last activation": lambda: _with_layers(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16)),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_actors_act_in_torch(case: str) -> None:
    assert not can_run(OTHERS[case]())


class _Recorder(gym.Env[np.ndarray, np.ndarray]):
    """Random observations; keeps the actions that it is given."""

    def __init__(self, low: Any, high: Any, shape: tuple[int, ...]) -> None:
        self.observation_space = BOX
        ends = (np.broadcast_to(np.float32(end), shape) for end in (low, high))
        self.action_space = spaces.Box(*ends, shape, np.float32)
        self.taken: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self.np_random.normal(size=5).astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.taken.append(action.copy())
        return self.np_random.normal(size=5).astype(np.float32), 0.0, False, False, {}


SPACES = {
    "plain": (-1.0, 1.0, (3,)),
    "wide": (-5.0, 5.0, (3,)),
    "one-sided": (np.float32([0.0, -1.0, 2.0]), np.float32([10.0, 0.5, 3.0]), (3,)),
    "two axes": (-2.0, 2.0, (2, 2)),
}


@pytest.mark.parametrize("case", SPACES)
@pytest.mark.parametrize("envs", [1, 3])
def test_an_agent_takes_and_stores_what_an_eager_one_does(case: str, envs: int, build: Build) -> None:
    low, high, shape = SPACES[case]
    found = []
    for engine in ("auto", "eager"):
        env = DummyVecEnv([lambda: _Recorder(low, high, shape)] * envs)
        agent = build(SAC, env=env, engine=engine, learning_starts=4 * envs, gradient_steps=0)
        agent.learn(24 * envs)
        assert (agent._numpy_actor is None) == (engine == "eager")
        taken = np.array([[e.taken for e in env.envs]]).swapaxes(1, 2)[0]
        found.append((taken, agent.replay_buffer.actions[:24], agent))
    (taken, stored, agent), (their_taken, their_stored, _) = found
    assert taken.shape == (24, envs, *shape)
    np.testing.assert_array_equal(taken[:4], their_taken[:4])  # at random
    np.testing.assert_allclose(taken, their_taken, rtol=0.0, atol=10.0 * TOLERANCE)
    np.testing.assert_allclose(stored, their_stored, rtol=0.0, atol=TOLERANCE)
    assert np.abs(stored[4:]).max() <= 1.0
    assert np.abs(stored[4:]).std() > 0.1
    middle, half = (np.broadcast_to((high + s * low) / 2.0, shape) for s in (1.0, -1.0))
    expected = middle + half * stored.reshape(24, envs, *shape)
    np.testing.assert_allclose(taken, expected, rtol=0.0, atol=1e-5)
    assert agent.action_space.contains(taken[-1, 0])


def test_action_noise_and_warm_up_are_theirs(build: Build) -> None:
    stored = []
    for engine in ("auto", "eager"):
        noise = NormalActionNoise(np.zeros(1), 0.3 * np.ones(1))
        agent = build(SAC, engine=engine, action_noise=noise, gradient_steps=0).learn(40)
        stored.append(agent.replay_buffer.actions[:40].copy())
    np.testing.assert_array_equal(*stored)


def test_many_environments_act_in_torch(build: Build) -> None:
    for envs, numpy in ((LARGEST_BATCH, True), (LARGEST_BATCH + 1, False)):
        env = DummyVecEnv([lambda: _Recorder(-1.0, 1.0, (2,))] * envs)
        assert (build(SAC, env=env)._numpy_actor is not None) == numpy


class _OwnPrediction(SACPolicy):
    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        return 0.0 * super()._predict(observation, deterministic)


def test_a_policy_with_a_prediction_of_its_own_is_asked(build: Build) -> None:
    agent = build(SAC, policy=_OwnPrediction, gradient_steps=0).learn(40)
    assert set(agent.replay_buffer.actions[20:40].flatten()) == {0.0}
