"""DiscreteSAC on the engine against its eager path: the same batches, the same numbers."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import Tensor, nn

from entroreg import Dual, Fixed, PerStateDual, Scheduled
from entroreg.agents import DiscreteSAC
from entroreg.agents.discrete_policy import CategoricalActor
from entroreg.agents.engine.engine import Engine
from entroreg.schedules import LinearSchedule

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
Settings = dict[str, Any]


def _per_state() -> Settings:
    torch.manual_seed(3)
    return {"ent_coef": PerStateDual(nn.Linear(4, 1), target=0.5, learning_rate=0.01)}


def _goals() -> Settings:
    return {
        "env": BitFlippingEnv(n_bits=4, max_steps=4),
        "policy": "MultiInputPolicy",
        "policy_kwargs": {"features_extractor_class": CombinedExtractor},
        "replay_buffer_class": HerReplayBuffer,
        "replay_buffer_kwargs": {"n_sampled_goal": 2},
    }


def _images() -> Settings:
    extractor = {"features_extractor_class": NatureCNN, "features_extractor_kwargs": {"features_dim": 4}}
    return {
        "env": FakeImageEnv(action_dim=3, screen_height=36, screen_width=36, discrete=True),
        "policy": "CnnPolicy",
        "policy_kwargs": {"net_arch": [8], **extractor},
        "buffer_size": 200,
        "batch_size": 4,
    }


# Compiled: the default, and all remedies at once.
COMPILED: dict[str, Callable[[], Settings]] = {
    "auto": dict,
    "all remedies": lambda: {"double_average_q": True, "q_clip": 0.05, "entropy_penalty": 0.5, "tau": 0.05},
}
# The engine's function as it is written.
WRITTEN: dict[str, Callable[[], Settings]] = {
    "double average": lambda: {"double_average_q": True},
    "clip": lambda: {"q_clip": 0.05},
    "penalty": lambda: {"entropy_penalty": 0.5},
    "penalty, interval": lambda: {"entropy_penalty": 0.5, "target_update_interval": 2},
    "no backup": lambda: {"entropy_backup": False},
    "n-step": lambda: {"n_steps": 3, "gamma": 0.9},
    "learning-rate schedule": lambda: {"learning_rate": lambda left: 3e-3 * left},
    "Dual, clamps, loss in alpha": lambda: {
        "ent_coef": Dual(0.5, loss="alpha", initial=0.5, learning_rate=0.01, minimum=0.4, maximum=0.6)
    },
    "Dual, scheduled target": lambda: {"ent_coef": Dual(LinearSchedule(0.6, 0.1, steps=200), learning_rate=0.01)},
    "Fixed": lambda: {"ent_coef": Fixed(0.2)},
    "Scheduled": lambda: {"ent_coef": Scheduled(LinearSchedule(1.0, 0.1, steps=200))},
    "per state": _per_state,
    "per state, no backup": lambda: {**_per_state(), "entropy_backup": False},
    "HER": _goals,
    "images": _images,
    "three critics": lambda: {"policy_kwargs": {"n_critics": 3, "net_arch": {"pi": [16], "qf": [24, 8]}}},
}


def _assert_equal(pair: Any, bound: float, updates: int) -> None:
    """All that is learned agrees, as does the log, and has changed."""
    before = {name: value.clone() for name, value in pair.engine.policy.state_dict().items()}
    pair.train(updates, calls=updates // 10)
    assert pair.engine.engine_status.startswith("compiled in ")
    assert pair.eager.engine_status == "eager"
    found = pair.distances()
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert {name: value for name, value in found.items() if not value <= bound} == {}
    after = pair.engine.policy.state_dict()
    still = set() if pair.engine.entropy_penalty else {name for name in before if name.startswith("actor_target.")}
    assert {name for name, value in after.items() if torch.equal(value, before[name])} == still
    logs = [_log(agent) for agent in (pair.engine, pair.eager)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-6 if bound < 1e-9 else 1e-4)


def _log(agent: Any) -> dict[str, float]:
    return {key: value for key, value in agent.logger.name_to_value.items() if key.startswith("train/")}


@pytest.mark.parametrize("case", COMPILED)
def test_all_that_is_learned_in_float64(case: str, twins: Any) -> None:
    _assert_equal(twins(COMPILED[case], double=True, cls=DiscreteSAC), 1e-12, updates=200)


@pytest.mark.parametrize("case", WRITTEN)
def test_all_that_is_learned_in_float64_as_written(case: str, twins: Any, uncompiled: None) -> None:
    _assert_equal(twins(WRITTEN[case], double=True, cls=DiscreteSAC), 1e-12, updates=60)


@pytest.mark.slow
@pytest.mark.parametrize("case", WRITTEN)
def test_all_that_is_learned_in_float64_compiled(case: str, twins: Any) -> None:
    _assert_equal(twins(WRITTEN[case], double=True, cls=DiscreteSAC), 1e-12, updates=200)


def test_float32_differs_by_rounding_alone(twins: Any) -> None:
    pair = twins(cls=DiscreteSAC)
    pair.train(20)
    assert max(pair.distances().values()) <= 1e-5


def _small(build: Any, **settings: Any) -> Any:
    return build(DiscreteSAC, env="CartPole-v1", **settings)


def test_auto_starts_after_its_number_of_updates(build: Any, uncompiled: None) -> None:
    agent = _small(build)
    assert agent.engine == "auto"
    assert agent.engine_status == "eager until update 5000"
    agent.engine_starts = 12
    assert agent.learn(32).engine_status == "eager until update 5000"
    assert agent.learn(1, reset_num_timesteps=False).engine_status.startswith("compiled in ")


def test_another_word_is_refused(build: Any) -> None:
    with pytest.raises(ValueError, match="engine"):
        _small(build, engine="fast")


@pytest.mark.parametrize("option", ["entropy_backup", "double_average_q", "q_clip", "entropy_penalty"])
def test_an_option_that_is_changed_makes_another_update(option: str, twins: Any, uncompiled: None) -> None:
    pair = twins(double=True, cls=DiscreteSAC)
    pair.train(3)
    values = {"entropy_backup": False, "double_average_q": True, "q_clip": 0.01, "entropy_penalty": 0.5}
    for agent in (pair.engine, pair.eager):
        setattr(agent, option, values[option])
    pair.train(20)
    assert max(pair.distances().values()) <= 1e-12


class _Dropout(FlattenExtractor):
    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.layer = nn.Dropout(0.1)

    def forward(self, observations: Tensor) -> Tensor:
        return self.layer(super().forward(observations))


class _OwnPool(DiscreteSAC):
    def _pool(self, q_values: Any) -> Tensor:
        return super()._pool(q_values) * 0.5


def _own_log_probs(agent: Any) -> None:
    class Own(CategoricalActor):
        def log_probs(self, observations: Any) -> Tensor:
            return torch.log_softmax(super().log_probs(observations) / 2.0, dim=1)

    agent.actor.__class__ = Own


@pytest.mark.parametrize(
    ("cls", "settings", "edit", "reason"),
    [
        (DiscreteSAC, {"policy_kwargs": {"features_extractor_class": _Dropout}}, None, "layer is a Dropout"),
        (DiscreteSAC, {"policy_kwargs": {"optimizer_class": torch.optim.SGD}}, None, "is SGD, not Adam"),
        (DiscreteSAC, {}, _own_log_probs, "Own has log_probs of its own"),
        (_OwnPool, {}, None, "_OwnPool has _pool of its own"),
    ],
)
def test_left_to_the_eager_path(
    cls: Any, settings: Settings, edit: Any, reason: str, build: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "update", None)
    agent = build(cls, env="CartPole-v1", engine="compiled", **settings)
    if edit is not None:
        edit(agent)
    with caplog.at_level(logging.INFO, "entroreg.agents.on_engine"):
        agent.learn(30)
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert agent.engine_status.startswith("eager: ")
    assert agent._n_updates == 10


def test_a_zip_holds_what_the_engine_has_learned(twins: Any, differences: Any, uncompiled: None) -> None:
    pair = twins(cls=DiscreteSAC)
    pair.train(10)
    buffer = io.BytesIO()
    pair.engine.save(buffer)
    buffer.seek(0)
    loaded = DiscreteSAC.load(buffer, env=pair.engine.get_env())
    assert (loaded.engine, loaded.engine_status) == ("compiled", "compiled")
    assert set(differences(loaded, pair.engine).values()) == {0.0}


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_stops_the_update(reward: float, twins: Any, uncompiled: None) -> None:
    pair = twins(cls=DiscreteSAC)
    pair.train(3)
    pair.engine.replay_buffer.rewards[:] = reward
    with pytest.raises(FloatingPointError, match=r"critic_loss became (nan|inf) at update 54"):
        pair.engine.train(1, 32)
