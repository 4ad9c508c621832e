"""Our eager SAC against stable_baselines3.SAC, bit for bit, with their train() out of order while ours runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn

from entroreg import Dual, Fixed, Scheduled
from entroreg.agents import SAC

Settings = dict[str, Any]
EagerSAC = partial(SAC, engine="eager")


class BatchNormExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space, features_dim=8)
        width = observation_space.shape[0]
        self.layers = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.Tanh())

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)


def _normalized() -> Settings:
    return {"env": VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2))}


def _dict() -> Settings:
    return {"env": BitFlippingEnv(n_bits=4, continuous=True, max_steps=4), "policy": "MultiInputPolicy"}


def _her() -> Settings:
    return {**_dict(), "replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 2}}


def _batch_norm() -> Settings:
    return {"policy_kwargs": {"net_arch": [16], "features_extractor_class": BatchNormExtractor}}


# Settings of Stable-Baselines3, and what ours takes in place of them where it is more than theirs.
CASES: dict[str, tuple[Callable[[], Settings], Callable[[], Settings]]] = {
    "auto": (dict, dict),
    "auto_0.1": (lambda: {"ent_coef": "auto_0.1"}, dict),
    "dual": (dict, lambda: {"ent_coef": Dual(target=-1.0)}),
    "dual with far clamps": (dict, lambda: {"ent_coef": Dual(target=-1.0, minimum=1e-9, maximum=1e9)}),
    "fixed number": (lambda: {"ent_coef": 0.2}, dict),
    "fixed zero": (lambda: {"ent_coef": 0.0}, dict),
    "fixed controller": (lambda: {"ent_coef": 0.2}, lambda: {"ent_coef": Fixed(0.2)}),
    "schedule that is constant": (lambda: {"ent_coef": 0.2}, lambda: {"ent_coef": Scheduled(lambda _: 0.2)}),
    "target": (lambda: {"target_entropy": -0.3}, dict),
    "target as a schedule": (lambda: {"target_entropy": -0.3}, lambda: {"target_entropy": lambda _: -0.3}),
    "gSDE": (lambda: {"use_sde": True, "sde_sample_freq": 8}, dict),
    "n-step": (lambda: {"n_steps": 3}, dict),
    "two gradient steps": (lambda: {"gradient_steps": 2}, dict),
    "a gradient step for each step": (lambda: {"gradient_steps": -1, "train_freq": (7, "step")}, dict),
    "target update interval": (lambda: {"target_update_interval": 2, "gradient_steps": 3}, dict),
    "learning-rate schedule": (lambda: {"learning_rate": lambda left: 1e-3 * left}, dict),
    "warm-up from 0": (lambda: {"learning_rate": lambda left: 1e-2 * (1.0 - left)}, dict),
    "VecNormalize": (_normalized, dict),
    "Dict observations": (_dict, dict),
    "HER": (_her, dict),
    "batch norm": (_batch_norm, dict),
    "memory": (
        lambda: {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        dict,
    ),
    "tau 1, gamma 0": (lambda: {"tau": 1.0, "gamma": 0.0}, dict),
    "one critic": (lambda: {"policy_kwargs": {"net_arch": [16], "n_critics": 1}}, dict),
}


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("Stable-Baselines3's train() ran")


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_equals_theirs(
    case: str, build: Callable[..., Any], differences: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs_settings, ours_settings = CASES[case]
    steps = {"learning_starts": 80}  # and so about 70 updates, or several times as many
    theirs = build(stable_baselines3.SAC, **{**steps, **theirs_settings()}).learn(150)
    monkeypatch.setattr(stable_baselines3.SAC, "train", _refuse)
    ours = build(EagerSAC, **{**steps, **theirs_settings(), **ours_settings()})
    before = ours.policy.state_dict()["critic.qf0.0.weight"].clone()
    ours.learn(150)
    assert not torch.equal(before, ours.policy.state_dict()["critic.qf0.0.weight"])
    assert ours._n_updates == theirs._n_updates > 20
    assert {name: value for name, value in differences(ours, theirs).items() if value != 0.0} == {}


def test_a_gradient_step_for_each_step_of_an_episode(
    build: Callable[..., Any], differences: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"gradient_steps": -1, "train_freq": (1, "episode")}  # Pendulum's last 200 steps
    theirs = build(stable_baselines3.SAC, **settings).learn(200)
    monkeypatch.setattr(stable_baselines3.SAC, "train", _refuse)
    ours = build(EagerSAC, **settings).learn(200)
    assert ours._n_updates == theirs._n_updates == 200
    assert set(differences(ours, theirs).values()) == {0.0}


def test_the_refusal_would_be_seen(build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stable_baselines3.SAC, "train", _refuse)
    with pytest.raises(AssertionError, match=r"Stable-Baselines3's train\(\) ran"):
        build(stable_baselines3.SAC).learn(30)


@pytest.mark.parametrize("learning_rate", [1e-2, lambda left: 1.0 - left], ids=["number", "schedule from 0"])
def test_untrained_agents_are_equal(learning_rate: Any, build: Callable[..., Any], differences: Any) -> None:
    ours, theirs = (build(cls, learning_rate=learning_rate) for cls in (EagerSAC, stable_baselines3.SAC))
    assert set(differences(ours, theirs).values()) == {0.0}


def test_another_seed_is_another_agent(build: Callable[..., Any], differences: Callable[..., Any]) -> None:
    found = differences(build(EagerSAC, seed=1).learn(60), build(stable_baselines3.SAC, seed=0).learn(60))
    assert found["policy.actor.mu.weight"] > 1e-3


def test_continued_learning_equals_theirs(build: Callable[..., Any], differences: Callable[..., Any]) -> None:
    agents = [
        build(cls).learn(60).learn(60, reset_num_timesteps=False) for cls in (EagerSAC, stable_baselines3.SAC)
    ]
    assert [agent.num_timesteps for agent in agents] == [120, 120]
    assert set(differences(*agents).values()) == {0.0}


def test_their_log_is_ours(build: Callable[..., Any]) -> None:
    logs = []
    for cls in (EagerSAC, stable_baselines3.SAC):
        agent = build(cls).learn(60)
        logs.append({key: value for key, value in agent.logger.name_to_value.items() if key.startswith("train/")})
    ours, theirs = logs
    assert set(theirs) == {
        "train/actor_loss",
        "train/critic_loss",
        "train/ent_coef",
        "train/ent_coef_loss",
        "train/learning_rate",
        "train/n_updates",
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"batch_size": 64, "policy_kwargs": {"net_arch": [32, 32]}}, id="small"),
        pytest.param({}, id="default", marks=pytest.mark.slow),
    ],
)
def test_five_hundred_training_steps(
    settings: Settings, differences: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**settings, "seed": 0, "device": "cpu", "buffer_size": 1000}
    theirs = stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", **settings).learn(600)
    monkeypatch.setattr(stable_baselines3.SAC, "train", _refuse)
    ours = EagerSAC("MlpPolicy", "Pendulum-v1", **settings).learn(600)
    found = differences(ours, theirs)
    print(f"{ours._n_updates} updates, {len(found)} tensors, largest difference {max(found.values())}")
    assert ours._n_updates == 500
    assert max(found.values()) == 0.0


def test_the_default_agent_differs_by_rounding_only(
    build: Callable[..., Any], differences: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It acts through NumPy and stores single precision, on the same random numbers: 3e-8 after 60 updates."""
    theirs = build(stable_baselines3.SAC).learn(80)
    monkeypatch.setattr(stable_baselines3.SAC, "train", _refuse)
    ours = build(SAC).learn(80)
    assert ours._n_updates == theirs._n_updates == 60
    assert 0.0 < max(differences(ours, theirs).values()) < 1e-5
