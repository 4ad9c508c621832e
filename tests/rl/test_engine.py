"""When the engine takes over, what acts on it, what makes it compile anew, and what stops it."""

from __future__ import annotations

import copy
import io
import logging
import random
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from entroreg import Dual, PerStateDual
from entroreg.agents import SAC, on_engine
from entroreg.agents.engine import compiling

Build = Callable[..., Any]
Edit = Callable[[Any], None]
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
ROUNDING = 1e-5  # measured 1e-6: float32, a few updates


def _assert_equal(pair: Any, bound: float = ROUNDING) -> None:
    found = pair.distances()
    assert {name: value for name, value in found.items() if not value <= bound} == {}


def _zip(agent: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    agent.save(buffer)
    buffer.seek(0)
    return buffer


def _spy(agent: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record at which update counts the engine of an agent is called."""
    calls: list[int] = []
    original = agent._engine.update

    def update(*arguments: Any, **settings: Any) -> Any:
        calls.append(agent._n_updates)
        return original(*arguments, **settings)

    monkeypatch.setattr(agent._engine, "update", update)
    return calls


def test_auto_starts_after_its_number_of_updates(
    build: Build, uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_engine, "ENGINE_STARTS", 12)
    agent = build(SAC, engine="auto")
    assert agent.engine_starts == 12
    calls = _spy(agent, monkeypatch)
    agent.learn(32)
    assert calls == []
    assert agent.engine_status == "eager until update 12"
    agent.learn(10, reset_num_timesteps=False)
    assert calls == list(range(12, 22))
    assert agent.engine_status.startswith("compiled in ")
    other = build(SAC)
    other.engine_starts = 7  # an attribute as any other
    calls = _spy(other, monkeypatch)
    other.learn(30)
    assert calls == [7, 8, 9]


def test_auto_is_the_default_and_starts_after_five_thousand_updates(build: Build) -> None:
    agent = build(SAC)
    assert (agent.engine, agent.engine_starts) == ("auto", 5_000)
    assert agent.engine_status == "eager until update 5000"
    assert agent.engine_compile_seconds == 0.0


def test_the_count_of_updates_is_the_life_of_an_agent(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = build(SAC, engine="auto")
    agent.engine_starts = 12
    agent.learn(30)
    loaded = SAC.load(_zip(agent), env=gym.make("Pendulum-v1"))
    monkeypatch.setattr(compiling, "compile_update", lambda update, device: update)
    assert (loaded._n_updates, loaded.engine_starts) == (10, 12)
    calls = _spy(loaded, monkeypatch)
    loaded.learning_starts = 0
    loaded.learn(4)
    assert calls == [12, 13]


def test_compiled_starts_at_once_and_eager_never(
    build: Build, uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = build(SAC, engine="compiled")
    calls = _spy(agent, monkeypatch)
    agent.learn(25)
    assert calls == list(range(5))
    eager = build(SAC, engine="eager")
    eager.engine_starts = 0
    calls = _spy(eager, monkeypatch)
    eager.learn(40)
    assert calls == []
    assert (eager._n_updates, eager.engine_status) == (20, "eager")


def test_before_it_starts_an_update_is_the_eager_one(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair.engine, "engine", "auto")
    monkeypatch.setattr(pair.engine, "engine_starts", 1_000)
    pair.train(10)
    assert set(pair.distances().values()) == {0.0}


ENGINES = r"engine must be one of \['auto', 'compiled', 'eager'\], got 'nonsense'"


def test_another_word_is_refused(build: Build) -> None:
    with pytest.raises(ValueError, match=ENGINES):
        build(SAC, engine="nonsense")


@pytest.mark.parametrize("saved", ["auto", "compiled", "eager"])
@pytest.mark.parametrize(("chosen", "starts"), [("auto", 12), ("compiled", 0), ("eager", None)])
def test_the_engine_may_be_chosen_at_load(
    saved: str, chosen: str, starts: int | None, build: Build, uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_engine, "ENGINE_STARTS", 12)
    agent = SAC.load(_zip(build(SAC, engine=saved)), env=gym.make("Pendulum-v1"), engine=chosen)
    calls = _spy(agent, monkeypatch)
    agent.learn(36)
    assert calls == ([] if starts is None else list(range(starts, 16)))


def test_another_word_is_refused_at_load(build: Build) -> None:
    with pytest.raises(ValueError, match=ENGINES):
        SAC.load(_zip(build(SAC)), engine="nonsense")


def _set_learning_rate(agent: Any) -> None:
    agent.learning_rate = 0.01
    agent._setup_lr_schedule()


def _set_target(agent: Any) -> None:
    agent.controller.problem.target = -5.0


def _set_clamps(agent: Any) -> None:
    agent.controller.problem.log_maximum = -1.0


CHANGES: dict[str, Edit] = {
    "gamma": lambda agent: setattr(agent, "gamma", 0.5),
    "tau": lambda agent: setattr(agent, "tau", 0.5),
    "target_update_interval": lambda agent: setattr(agent, "target_update_interval", 3),
    "learning rate": _set_learning_rate,
    "target entropy": _set_target,
    "clamps": _set_clamps,
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_acts_without_compiling_again(change: str, pair: Any, apart: Any) -> None:
    pair.train(1)
    seconds = pair.engine.engine_compile_seconds
    unchanged = copy.deepcopy(pair.eager)
    for agent in (pair.engine, pair.eager):
        CHANGES[change](agent)
    pair.train(10)
    assert pair.engine.engine_compile_seconds == seconds
    _assert_equal(pair)
    assert pair.engine.logger.name_to_value["train/target_entropy"] == (-5.0 if "entropy" in change else -2.0)
    pair.train_one(unchanged, 10)
    assert max(apart(unchanged, pair.eager).values()) > 1e-4  # the change matters


REBUILDS: dict[str, Edit] = {
    "entropy_backup": lambda agent: setattr(agent, "entropy_backup", False),
    "loss": lambda agent: setattr(agent.controller.problem, "loss", "alpha"),
    "bound": lambda agent: setattr(agent.controller.problem, "bound", "upper"),
    "controller": lambda agent: agent._bind_ent_coef(0.7, "auto", -2.0, agent._entropy_limits),
}


@pytest.mark.parametrize("change", REBUILDS)
def test_what_shapes_the_update_makes_another(change: str, twins: Any, uncompiled: None) -> None:
    pair = twins(lambda: {"ent_coef": Dual(-1.0, initial=0.5, learning_rate=0.01)})
    pair.train(3)
    for agent in (pair.engine, pair.eager):
        REBUILDS[change](agent)
    pair.train(10)
    _assert_equal(pair)


def _states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return (torch.get_rng_state().tolist(), random.getstate(), name, keys.tolist(), *rest)


def test_another_batch_size_is_compiled_anew(pair: Any) -> None:
    pair.train(2)
    seconds = pair.engine.engine_compile_seconds
    states = []
    for agent in (pair.engine, pair.eager):
        agent.learn(0)
        torch.manual_seed(2)
        np.random.seed(2)
        random.seed(2)
        for size in (32, 16, 32, 16):
            agent.train(3, size)
        states.append(_states())
    again = pair.engine.engine_compile_seconds
    assert again > seconds
    _assert_equal(pair)
    assert states[0] == states[1]  # compiling draws no random numbers
    pair.engine.train(2, 16)
    pair.engine.train(2, 32)
    assert pair.engine.engine_compile_seconds == again


def test_random_streams_are_read_as_by_the_eager_path(pair: Any) -> None:
    states = []
    for agent in (pair.engine, pair.eager):
        torch.manual_seed(4)
        np.random.seed(4)
        random.seed(4)
        fresh = _states()
        agent.train(7, 32)
        states.append(_states())
        assert states[-1][0] != fresh[0]
        assert states[-1][3:5] != fresh[3:5]
    assert states[0] == states[1]


def test_another_optimiser_is_compiled_anew_or_left(twins: Any, caplog: pytest.LogCaptureFixture) -> None:
    pair = twins()
    pair.train(2)
    seconds = pair.engine.engine_compile_seconds
    for agent in (pair.engine, pair.eager):
        agent.critic.optimizer = torch.optim.Adam(agent.critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
        agent.learn(0)
    pair.train(10)
    assert pair.engine.engine_compile_seconds > seconds
    _assert_equal(pair)
    with caplog.at_level(logging.INFO, "entroreg.agents.on_engine"):
        for agent in (pair.engine, pair.eager):
            agent.critic.optimizer = torch.optim.SGD(agent.critic.parameters(), lr=1e-3)
            agent.learn(0)
        caplog.clear()
        weight = pair.engine.critic.qf0[0].weight.detach().clone()
        pair.train(10)
    assert [record.getMessage() for record in caplog.records] == ["engine: eager: the optimiser is SGD, not Adam"]
    assert pair.engine.engine_status == "eager: the optimiser is SGD, not Adam"
    ours, theirs = (agent.critic.qf0[0].weight.detach() for agent in (pair.engine, pair.eager))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not torch.equal(ours, weight)


def test_another_number_of_environments(pair: Any, two_actions_env: Any, apart: Any) -> None:
    pair.train(3)
    archive = _zip(pair.engine)

    def load(**settings: Any) -> Any:
        archive.seek(0)
        return SAC.load(archive, env=DummyVecEnv([two_actions_env] * 3), **settings)

    engine, eager = load(), load(engine="eager")
    engine.learn(90)  # random actions: learning_starts is in the zip
    eager.learn(0)
    eager.replay_buffer = engine.replay_buffer
    for agent in (engine, eager):
        pair.train_one(agent, 5)
    assert engine.n_envs == engine.replay_buffer.n_envs == 3
    assert engine.engine_status.startswith("compiled in ")
    assert eager.engine_status == "eager"
    assert max(apart(engine, eager).values()) <= ROUNDING


@pytest.mark.slow
def test_another_number_of_threads_is_compiled_anew(pair: Any) -> None:
    pair.train(2)
    seconds = pair.engine.engine_compile_seconds
    torch.set_num_threads(2)
    pair.train(5)
    assert pair.engine.engine_compile_seconds > seconds
    torch.set_num_threads(1)
    pair.train(5)
    _assert_equal(pair)


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_stops_the_update(reward: float, pair: Any) -> None:
    pair.train(2)
    for agent in (pair.engine, pair.eager):
        agent.replay_buffer = copy.deepcopy(pair.engine.replay_buffer)
        agent.replay_buffer.rewards[:] = reward
        with pytest.raises(FloatingPointError, match=f"critic_loss became {reward} at update 53: look at"):
            agent.train(1, 32)
        with pytest.raises((FloatingPointError, ValueError)):  # it does not go on as if nothing had been
            agent.train(1, 32)


def test_a_reward_that_is_nan_stops_the_training(build: Build, nan_reward: Any, uncompiled: None) -> None:
    agent = build(SAC, engine="compiled", env=nan_reward(gym.make("Pendulum-v1"), after=30))
    with pytest.raises(FloatingPointError, match="reward of environment 0 became nan at environment step 31"):
        agent.learn(200)
    assert agent.engine_status.startswith("compiled in ")
    assert agent.num_timesteps == 31


class _Root(FlattenExtractor):
    """Features times a root, whose slope is infinite at 0: the loss is finite there, its gradient is not."""

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space)
        self.shift = nn.Parameter(torch.tensor(0.5))

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations) * (1.0 + self.shift.sqrt())


@pytest.mark.parametrize("network", ["critic", "actor"])
def test_an_infinite_gradient_of_a_finite_loss_is_named(network: str, twins: Any, uncompiled: None) -> None:
    pair = twins(lambda: {"policy_kwargs": {"features_extractor_class": _Root}, "learning_rate": 1e-5})
    pair.train(2)
    _assert_equal(pair)
    shift = getattr(pair.engine, network).features_extractor.shift
    shift.data.zero_()
    with pytest.raises(FloatingPointError, match=rf"{network}_gradient became (-?inf|nan) at update 53"):
        pair.engine.train(1, 32)


@pytest.mark.parametrize("network", ["critic", "actor"])
def test_the_eager_path_stops_within_one_update_of_an_infinite_gradient(network: str, twins: Any) -> None:
    pair = twins(lambda: {"policy_kwargs": {"features_extractor_class": _Root}, "learning_rate": 1e-5})
    getattr(pair.eager, network).features_extractor.shift.data.zero_()
    with pytest.raises(FloatingPointError, match=rf"{network}_gradient became (-?inf|nan) at update 51"):
        pair.eager.train(2, 32)


def test_sums_of_gradients_are_checked_and_not_logged(pair: Any) -> None:
    pair.train(3)
    ours, theirs = (agent.logger.name_to_value for agent in (pair.engine, pair.eager))
    assert {name for name in ours if name.startswith("train/")} == set(theirs)
    assert set(ours) - set(theirs) <= {"time/compile_seconds"}


def test_controllers_learn_in_an_agent_on_the_engine(build: Build, uncompiled: None) -> None:
    per_state = PerStateDual(nn.Linear(3, 1), target=-1.0, learning_rate=0.01)
    dual = Dual(target=-1.0, learning_rate=0.01)
    for controller in (per_state, dual):
        agent = build(SAC, engine="compiled", ent_coef=controller).learn(40)
        assert agent.engine_status.startswith("compiled in ")
        assert controller.problem.step == agent._n_updates == 20
