"""What the engine leaves to the eager path, with one line in the log."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn

from entroreg.agents import SAC
from entroreg.agents.engine import compiling
from entroreg.agents.engine.engine import Engine

Build = Callable[..., Any]
Edit = Callable[[Any], None]
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


class _Layers(FlattenExtractor):
    """Features of a layer that a subclass names."""

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space)
        width = self.features_dim
        self.layers = nn.Sequential(nn.Linear(width, width), self.last(width))

    @staticmethod
    def last(width: int) -> nn.Module:
        return nn.LayerNorm(width)

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(super().forward(observations))


class _BatchNorm(_Layers):
    last = staticmethod(nn.BatchNorm1d)


class _Dropout(_Layers):
    @staticmethod
    def last(width: int) -> nn.Module:
        return nn.Dropout(0.1)


class _Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        self.passes = self.passes + 1.0
        return features


class _Counting(_Layers):
    @staticmethod
    def last(width: int) -> nn.Module:
        return _Counter()


class _Wider(SquashedDiagGaussianDistribution):
    pass


class _WiderPolicy(SACPolicy):
    def make_actor(self, features_extractor: Any = None) -> Actor:
        actor = super().make_actor(features_extractor)
        actor.action_dist = _Wider(2)
        return actor


class _OwnActor(Actor):
    def action_log_prob(self, obs: Any) -> tuple[Tensor, Tensor]:
        return super().action_log_prob(obs)


class _OwnActorPolicy(SACPolicy):
    def make_actor(self, features_extractor: Any = None) -> Actor:
        return _OwnActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


class _OwnCritic(ContinuousCritic):
    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        return tuple(2.0 * value for value in super().forward(obs, actions))


class _OwnCriticPolicy(SACPolicy):
    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        return _OwnCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)


class _OwnUpdate(SAC):
    def _update(self, batch: Any) -> dict[str, Tensor]:
        return super()._update(batch)


class _OwnTarget(SAC):
    def _critic_target(self, batch: Any, next_alpha: Tensor) -> Tensor:
        return super()._critic_target(batch, next_alpha).clamp(max=0.0)


class _OwnTargetUpdate(SAC):
    def _update_targets(self) -> None:
        self.critic_target.load_state_dict(self.critic.state_dict())


def _optimizer(cls: Any = torch.optim.Adam, **settings: Any) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": [16], "optimizer_class": cls, "optimizer_kwargs": settings}}


def _extractor(cls: Any, **settings: Any) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": [16], "features_extractor_class": cls, **settings}}


LEFT: dict[str, tuple[dict[str, Any], str]] = {
    "batch norm": (_extractor(_BatchNorm), r"features_extractor\.layers\.1 is a BatchNorm1d, .* no pure function"),
    "dropout": (_extractor(_Dropout), r"features_extractor\.layers\.1 is a Dropout, .* no pure function"),
    "a buffer": (_extractor(_Counting), r"Actor has buffers \(features_extractor\.layers\.1\.passes\)"),
    "gSDE": ({"use_sde": True}, "gSDE"),
    "a distribution": ({"policy": _WiderPolicy}, "distribution is _Wider"),
    "an actor": ({"policy": _OwnActorPolicy}, "_OwnActor has an action_log_prob of its own"),
    "a critic": ({"policy": _OwnCriticPolicy}, "_OwnCritic has a forward of its own"),
    "a shared extractor": (_extractor(_Layers, share_features_extractor=True), "parameters of ContinuousCritic"),
    "weight decay": (_optimizer(weight_decay=0.01), r"weight_decay=0\.01"),
    "amsgrad": (_optimizer(amsgrad=True), "amsgrad=True"),
    "AdamW": (_optimizer(torch.optim.AdamW), "the optimiser is AdamW, not Adam"),
    "SGD": (_optimizer(torch.optim.SGD), "the optimiser is SGD, not Adam"),
}


def _assert_left(agent: Any, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """It trains by the eager path, and says why once in its log and in its status."""
    monkeypatch.setattr(Engine, "update", None)
    weight = agent.critic.qf0[-1].weight.detach().clone()
    with caplog.at_level(logging.INFO, "entroreg.agents.on_engine"):
        agent.learn(30)
        agent.learn(5, reset_num_timesteps=False)
    (record,) = caplog.records
    assert re.search(reason, record.getMessage())
    assert record.getMessage() == f"engine: {agent.engine_status}"
    assert agent.engine_status.startswith("eager: ")
    assert "\n" not in agent.engine_status
    assert agent._n_updates == 15
    assert not torch.equal(weight, agent.critic.qf0[-1].weight.detach())
    assert agent.engine_compile_seconds == 0.0


@pytest.mark.parametrize("case", LEFT)
def test_left_to_the_eager_path(
    case: str, build: Build, two_actions_env: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, reason = LEFT[case]
    agent = build(SAC, env=two_actions_env(), engine="compiled", **settings)
    _assert_left(agent, reason, caplog, monkeypatch)


@pytest.mark.parametrize("cls", [_OwnUpdate, _OwnTarget, _OwnTargetUpdate])
def test_an_agent_with_an_update_of_its_own_is_left(
    cls: type[SAC], build: Build, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _assert_left(build(cls, engine="compiled"), "of its own", caplog, monkeypatch)


def _freeze(agent: Any) -> None:
    agent.actor.latent_pi[0].weight.requires_grad_(False)


def _hook(agent: Any) -> None:
    agent.critic.qf0[0].weight.register_hook(lambda gradient: gradient * 0.5)


def _step_hook(agent: Any) -> None:
    agent.actor.optimizer.register_step_pre_hook(lambda *_: None)


def _group(agent: Any) -> None:
    first, *rest = agent.actor.parameters()
    agent.actor.optimizer = torch.optim.Adam([{"params": [first], "lr": 1e-3}, {"params": rest}], lr=1e-3)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_freeze, "Actor has frozen parameters"),
        (_hook, "ContinuousCritic has hooks on its gradients"),
        (_step_hook, "optimiser of Actor has step hooks"),
        (_group, "several parameter groups"),
    ],
)
def test_an_agent_that_was_changed_is_left(
    edit: Edit, reason: str, build: Build, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = build(SAC, engine="compiled")
    edit(agent)
    frozen = agent.actor.latent_pi[0].weight.detach().clone()
    _assert_left(agent, reason, caplog, monkeypatch)
    assert torch.equal(frozen, agent.actor.latent_pi[0].weight.detach()) == (edit is _freeze)


def test_a_verbose_agent_prints_the_line(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    build(SAC, engine="compiled", use_sde=True, verbose=1).learn(30)
    assert capsys.readouterr().out.count("engine: eager: gSDE draws its noise outside the update\n") == 1


class _Item(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        features = super().forward(observations)
        return features * 2.0 if features.mean().item() > 0.0 else features


class _Print(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        print(float(observations.detach()[0, 0]), end="")
        return super().forward(observations)


class _Library(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        features = super().forward(observations)
        return features + torch.from_numpy(np.random.default_rng(0).normal(size=features.shape)).to(features)


@pytest.mark.parametrize("extractor", [_Item, _Print, _Library])
def test_what_torch_cannot_trace_is_left(
    extractor: type[FlattenExtractor], twins: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pair = twins(lambda: {"policy_kwargs": {"features_extractor_class": extractor}})
    with caplog.at_level(logging.INFO, "entroreg.agents.on_engine"):
        pair.train(5)
        pair.engine.learn(0)
        pair.train(5)
    (record,) = caplog.records
    assert record.getMessage().startswith("engine: eager: torch cannot compile this policy (")
    assert "\n" not in record.getMessage()
    assert pair.engine._n_updates == 60
    # The attempt has changed nothing, the random numbers included.
    assert set(pair.distances().values()) == {0.0}


@pytest.fixture
def no_compiler() -> Iterator[None]:
    from torch._inductor import config

    compiling.why_not_compile.cache_clear()
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        yield
    compiling.why_not_compile.cache_clear()


def test_without_a_compiler_there_is_one_warning(build: Build, caplog: Any, no_compiler: None) -> None:
    agent = build(SAC, engine="compiled")
    text = r"the engine stays eager: no C\+\+ compiler was found \(\w+\)"
    with (
        pytest.warns(UserWarning, match=text) as warned,
        caplog.at_level(logging.INFO, "entroreg.agents.on_engine"),
    ):
        agent.learn(40)
    assert len(warned) == 1
    assert len(caplog.records) == 1
    assert agent.engine_status.startswith("eager: no C++ compiler was found")
    assert agent._n_updates == 20


def test_a_short_run_needs_no_compiler_and_says_nothing(build: Build, no_compiler: None) -> None:
    assert build(SAC, engine="auto").learn(40).engine_status == "eager until update 5000"


STRICT = """
import warnings
from entroreg.agents import SAC
agent = SAC("MlpPolicy", "Pendulum-v1", engine="compiled", learning_starts=10, batch_size=32, seed=0,
            policy_kwargs={"net_arch": [32, 32]}, device="cpu")
warnings.simplefilter("error")
agent.learn(12)
print(agent.engine_status)
"""


def test_it_is_compiled_where_warnings_are_errors() -> None:
    done = subprocess.run([sys.executable, "-c", STRICT], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("compiled in "), done.stdout
