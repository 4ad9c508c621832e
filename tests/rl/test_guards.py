"""What is not finite ends a training before it is stored or learned from; entropy that goes wrong is said."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from entroreg import Dual, Fixed, PerStateDual
from entroreg.agents import SAC, DiscreteSAC, SACPopulation, guarding
from entroreg.agents.guarding import EntropyWatch
from entroreg.controllers.dual import DualProblem
from entroreg.guards import (
    EntropyCollapseWarning,
    EntropyWarning,
    TemperatureRunawayWarning,
    categorical_floor,
    gaussian_floor,
)

Build = Callable[..., Any]
CURVES = json.loads((Path(__file__).parent / "data" / "entropy_curves.json").read_text())["curves"]


class Poisoned(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that returns ``value`` in place of a part of what step ``at`` returns; step 0 is a reset."""

    def __init__(self, env: gym.Env[Any, Any], part: str, at: int, value: float = math.nan) -> None:
        super().__init__(env)
        self.part, self.at, self.value, self.taken = part, at, value, 0

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return self._observed(observation) if self.at == 0 else observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.taken += 1
        if self.taken == self.at:
            if self.part == "reward":
                reward = self.value
            else:
                observation = self._observed(observation)
                truncated = self.part == "last observation"
        return observation, reward, terminated, truncated, info

    def _observed(self, observation: Any) -> Any:
        if isinstance(observation, dict):
            bad = np.array(observation["observation"], np.float32)
            bad[-1] = self.value
            return {**observation, "observation": bad}
        observation = np.array(observation)
        observation[-1] = self.value
        return observation


def _pendulum(part: str = "", at: int = -1, value: float = math.nan) -> gym.Env[Any, Any]:
    return Poisoned(gym.make("Pendulum-v1"), part, at, value)


def _cart_pole(part: str = "", at: int = -1, value: float = math.nan) -> gym.Env[Any, Any]:
    return Poisoned(gym.make("CartPole-v1"), part, at, value)


def _stored(agent: Any) -> int:
    buffer = agent.replay_buffer
    assert np.isfinite(buffer.rewards[: buffer.pos]).all()
    return int(buffer.pos)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("part", "quantity"), [("observation", r"\(2,\)"), ("reward", ""), ("last observation", r"\(2,\)")]
)
def test_what_the_environment_returns_is_looked_at_before_it_is_stored(
    part: str, quantity: str, value: float, build: Build
) -> None:
    agent = build(SAC, env=_pendulum(part, 30, value))
    element = f" in element {quantity}" if quantity else ""
    message = (
        rf"^{part} of environment 0 became {value}{element} at environment step 30: no update has used it; look"
    )
    with pytest.raises(FloatingPointError, match=message):
        agent.learn(200)
    assert (_stored(agent), agent.num_timesteps) == (29, 30)


def test_the_first_observation_is_looked_at(build: Build) -> None:
    agent = build(SAC, env=_pendulum("observation", 0))
    message = r"observation of environment 0 became nan in element \(2,\) at environment step 0"
    with pytest.raises(FloatingPointError, match=message):
        agent.learn(200)
    assert _stored(agent) == 0


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_one_of_three_environments_is_named(engine: str, build: Build, uncompiled: None) -> None:
    envs = DummyVecEnv([_pendulum, _pendulum, partial(_pendulum, "observation", 12, math.inf)])
    agent = build(SAC, env=envs, engine=engine)
    message = r"observation of environment 2 became inf in element \(2,\) at environment step 36"
    with pytest.raises(FloatingPointError, match=message):
        agent.learn(200)
    assert agent.replay_buffer.pos == 11


@pytest.mark.slow
def test_an_environment_in_another_process_is_named(build: Build) -> None:
    envs = SubprocVecEnv([_pendulum, partial(_pendulum, "reward", 5)], start_method="forkserver")
    try:
        with pytest.raises(FloatingPointError, match="reward of environment 1 became nan at environment step 10"):
            build(SAC, env=envs).learn(200)
    finally:
        envs.close()


def test_infinity_does_not_hide_behind_normalisation(build: Build) -> None:
    for part, found in (("observation", r"observation .* inf in element \(2,\)"), ("reward", "reward .* inf")):
        envs = VecNormalize(DummyVecEnv([partial(_pendulum, part, 15, math.inf)]))
        with (
            pytest.raises(FloatingPointError, match=rf"^{found} at environment step 15"),
            np.errstate(all="ignore"),
        ):
            build(SAC, env=envs).learn(200)


def test_a_part_of_a_dict_is_named(build: Build) -> None:
    def env(part: str, at: int) -> gym.Env[Any, Any]:
        flipping = BitFlippingEnv(n_bits=3, continuous=True, max_steps=3)
        spaces_ = {key: spaces.Box(-1.0, 1.0, space.shape) for key, space in flipping.observation_space.items()}
        flipping.observation_space = spaces.Dict(spaces_)
        return Poisoned(flipping, part, at)

    settings = {"policy": "MultiInputPolicy", "replay_buffer_class": HerReplayBuffer}
    for part in ("observation", "last observation"):
        message = rf"^{part} 'observation' of environment 0 became nan in element \(2,\) at environment step 7"
        with pytest.raises(FloatingPointError, match=message):
            build(SAC, env=env(part, 7), **settings).learn(50)


@pytest.mark.parametrize("part", ["observation", "reward"])
def test_discrete_actions(part: str, build: Build) -> None:
    agent = build(DiscreteSAC, env=_cart_pole(part, 30))
    with pytest.raises(FloatingPointError, match=rf"^{part} of environment 0 became nan .*at environment step 30"):
        agent.learn(200)
    assert _stored(agent) == 29


class _NanNoise(ActionNoise):
    def __call__(self) -> np.ndarray:
        return np.array([math.nan], np.float32)

    def __repr__(self) -> str:
        return "NaN"


def test_an_action_is_looked_at_before_the_environment_gets_it(build: Build) -> None:
    env = _pendulum()
    agent = build(SAC, env=env, action_noise=_NanNoise())
    message = (
        r"^action of environment 0 became nan in element \(0,\) at environment step 0: look at the weights that"
    )
    with pytest.raises(FloatingPointError, match=message):
        agent.learn(200)
    assert env.taken == 0


@pytest.mark.parametrize(
    ("kind", "engine", "message"),
    [
        (SAC, "eager", r"parameter actor\.mu\.bias became nan in element \(0,\) at update 0: load the last good"),
        (SAC, "compiled", r"action of environment 0 became nan in element \(0,\) at environment step 0"),
        (DiscreteSAC, "eager", r"parameter actor\.logits\.2\.bias became nan in element \(0,\) at update 0"),
    ],
)
def test_weights_that_are_nan_do_not_act(kind: Any, engine: str, message: str, build: Build) -> None:
    env = _cart_pole() if kind is DiscreteSAC else _pendulum()
    agent = build(kind, env=env, engine=engine, learning_starts=0)
    last = agent.actor.logits[-1] if kind is DiscreteSAC else agent.actor.mu
    last.bias.data[0] = math.nan
    with pytest.raises(FloatingPointError, match=message):
        agent.learn(200)
    assert env.taken == 0


@pytest.mark.parametrize(("kind", "name"), [(SAC, "mean"), (DiscreteSAC, "log-probability")])
def test_observations_that_overflow_the_policy_are_named(kind: Any, name: str, build: Build) -> None:
    env = (_cart_pole if kind is DiscreteSAC else _pendulum)("observation", 1, 3e38)
    agent = build(kind, env=env, engine="eager", learning_starts=0, train_freq=100)
    # A first layer that adds up: what is near the largest float overflows.
    for network in (agent.actor.logits,) if kind is DiscreteSAC else (agent.actor.latent_pi, agent.actor.mu):
        for parameter in network.parameters():
            parameter.data.fill_(10.0)
    if kind is DiscreteSAC:
        agent.actor.logits[-1].weight.data[0].fill_(-10.0)
    with pytest.raises(
        FloatingPointError, match=rf"^{name} of the policy became .*look at the size of the observa"
    ):
        agent.learn(200)


@pytest.mark.parametrize("kind", [SAC, DiscreteSAC])
def test_no_update_follows_one_that_was_not_finite(
    kind: Any, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = "CartPole-v1" if kind is DiscreteSAC else "Pendulum-v1"
    agent = build(kind, env=env, engine="eager").learn(30)
    agent.replay_buffer.rewards[:] = math.inf
    taken, update = [], kind._update
    monkeypatch.setattr(kind, "_update", lambda self, batch: taken.append(1) or update(self, batch))
    with pytest.raises(FloatingPointError, match="critic_loss became inf at update 11: look at the rewards"):
        agent.train(5, 16)
    assert len(taken) == 1


def test_an_infinite_gradient_of_discrete_sac_is_named(build: Build) -> None:
    agent = build(DiscreteSAC, env="CartPole-v1", engine="eager").learn(30)
    for name, network in (("critic", agent.critic), ("actor", agent.actor)):
        other = build(DiscreteSAC, env="CartPole-v1", engine="eager").learn(30)
        next(getattr(other, name).parameters()).register_hook(lambda gradient: gradient * math.inf)
        with pytest.raises(FloatingPointError, match=rf"^{name}_gradient became (nan|-?inf) at update 11"):
            other.train(1, 16)
        assert network is not getattr(other, name)


def test_sums_of_gradients_are_not_logged(build: Build) -> None:
    for kind, env in ((SAC, "Pendulum-v1"), (DiscreteSAC, "CartPole-v1")):
        agent = build(kind, env=env, engine="eager").learn(30)
        assert "train/critic_loss" in agent.logger.name_to_value
        assert not [name for name in agent.logger.name_to_value if "gradient" in name]


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (lambda a: a.critic.qf0[0].weight.data[0].fill_(math.nan), r"parameter critic\.qf0\.0\.weight became nan"),
        (lambda a: a.critic_target.qf0[0].bias.data.fill_(math.inf), r"parameter critic_target\.qf0\.0\.bias"),
        (
            lambda a: next(iter(a.actor.optimizer.state.values()))["exp_avg_sq"].fill_(math.inf),
            "exp_avg_sq of the actor's optimiser became inf",
        ),
        (lambda a: a.log_ent_coef.data.fill_(math.nan), "log alpha became nan"),
    ],
)
def test_a_poisoned_agent_is_not_saved(poison: Any, message: str, build: Build, tmp_path: Path) -> None:
    agent = build(SAC).learn(30)
    path = tmp_path / "model.zip"
    agent.save(path)
    before = path.read_bytes()
    poison(agent)
    with pytest.raises(FloatingPointError, match=rf"^{message}.* at update 10: load the last good checkpoint"):
        agent.save(path)
    assert path.read_bytes() == before


def test_updates_that_nobody_has_looked_at_yet_are_looked_at_before_a_save(build: Build, tmp_path: Path) -> None:
    agent = build(SAC).learn(30)
    agent._launched = [(("alpha", "critic_loss"), torch.tensor([1.0, value])) for value in (2.0, math.nan)]
    with pytest.raises(FloatingPointError, match="critic_loss became nan at update 10"):
        agent.save(tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()


@pytest.mark.gpu
def test_an_agent_on_a_gpu_is_not_saved_after_an_update_that_was_not_finite(tmp_path: Path) -> None:
    agent = SAC("MlpPolicy", "Pendulum-v1", engine="compiled", device="cuda", seed=0, learning_starts=100).learn(
        150
    )
    agent.replay_buffer.rewards[:] = math.nan
    agent._engine._tables.clear()
    agent._engine._captured.clear()
    agent.train(1, 256)
    with pytest.raises(FloatingPointError, match="critic_loss became nan at update"):
        agent.save(tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()


def test_no_callback_sees_an_agent_after_an_update_that_was_not_finite(build: Build) -> None:
    class Look(BaseCallback):
        def _on_step(self) -> bool:
            self.model.require_finite_state()
            if self.num_timesteps == 40:
                self.model.replay_buffer.rewards[:] = math.inf
            return True

    for gradient_steps in (1, 4):
        agent = build(SAC, gradient_steps=gradient_steps, train_freq=4)
        with pytest.raises(FloatingPointError, match="critic_loss became inf"):
            agent.learn(200, callback=Look())
        assert agent.num_timesteps == 40


def _space(name: str) -> tuple[Any, tuple[float, float]]:
    sizes = {"cartpole": 2, "acrobot": 3, "pendulum": 1, "mountaincar": 1, "hopper": 3, "cheetah": 6}
    size = sizes[name.split()[0]]
    if name.split()[0] in ("cartpole", "acrobot"):
        return partial(categorical_floor, math.log(size)), (0.0, math.log(size))
    return partial(gaussian_floor, size), (-math.inf, math.inf)


def _messages(watch: EntropyWatch, rows: list[tuple[int, dict[str, float]]]) -> dict[type[Warning], str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for update, metrics in rows:
            watch.update(update, metrics)
    assert len({one.category for one in caught}) == len(caught)  # each at most once
    return {one.category: str(one.message) for one in caught}


def _watched(name: str) -> tuple[Callable[[], EntropyWatch], list[tuple[int, dict[str, float]]]]:
    curve = CURVES[name]
    floor, limits = _space(name)

    def watch() -> EntropyWatch:
        problem = None
        if curve["target"] is not None:
            problem = DualProblem(curve["target"], "lower", "log_alpha", None, curve["maximum"])
            problem.limits = limits
        return EntropyWatch(floor, problem)

    rows = [
        (update, {"entropy": entropy, "alpha": alpha, "target_entropy": curve["target"]})
        for update, entropy, alpha in zip(curve["updates"], curve["entropy"], curve["alpha"], strict=True)
    ]
    return watch, rows


EXPECTED = {
    "cartpole -A": {
        EntropyCollapseWarning: "policy entropy has collapsed: 0.11 nats at update 7500, and below 0.173 for 10 "
        "readings: the target entropy, -2, is one that every policy is above, so alpha, 0.000695 now, only falls: "
        "use target_entropy='auto'"
    },
    "pendulum 0.69": {
        TemperatureRunawayWarning: "temperature runs away: 1.3e+03 at update 16000, 997 times what it was 31 "
        "readings before, and entropy is still 0.0378 nats from its target"
    },
    "pendulum clamp": {
        EntropyCollapseWarning: "policy entropy has collapsed: -7.75 nats at update 5000, and below -3.2 for 10 "
        "readings: alpha, 0.001 now, does not hold the target of -0.2: raise its learning rate or its maximum",
        TemperatureRunawayWarning: "temperature has been at its maximum, 0.001, for 10 readings up to update 5000, "
        "and entropy is still 7.55 nats from its target: raise the maximum",
    },
    "pendulum slow dual": {
        EntropyCollapseWarning: "policy entropy has collapsed: -9.91 nats at update 5000, and below -4 for 10 "
        "readings: alpha, 0.000101 now, does not hold the target of -1: raise its learning rate"
    },
}


@pytest.mark.parametrize("name", CURVES)
def test_recorded_trainings_are_judged_rightly(name: str) -> None:
    watch, rows = _watched(name)
    found = _messages(watch(), rows)
    expected = EXPECTED.get(name, {})
    assert found.keys() == expected.keys()
    for category, text in expected.items():
        assert found[category].startswith(text)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_watch_that_is_stored_anywhere_says_the_same(name: str) -> None:
    watch, rows = _watched(name)
    whole = _messages(watch(), rows)
    for cut in range(0, len(rows), 3):
        first, second = watch(), watch()
        early = _messages(first, rows[:cut])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert second.due == first.due
        late = _messages(second, rows[cut:])
        assert not early.keys() & late.keys()
        assert {**early, **late} == whole


def test_the_committed_benchmarks_raise_no_alarm() -> None:
    found = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "sac_small.json").read_text())
    judged = 0
    for cell in found["cells"]:
        if not cell["method"].startswith("entroreg"):
            continue
        discrete = cell["task"].startswith("CartPole")
        target = 0.7 * math.log(2.0) if discrete else -1.0
        floor = partial(categorical_floor, math.log(2.0)) if discrete else partial(gaussian_floor, 1)
        watch = EntropyWatch(floor, DualProblem(target, "lower", "log_alpha", None, None))
        alphas = dict(cell["curves"]["alpha"])
        rows = [
            (int(step), {"entropy": entropy, "alpha": alphas[step], "target_entropy": target})
            for step, entropy in cell["curves"]["entropy"]
        ]
        assert _messages(watch, rows) == {}
        judged += 1
    assert judged == 10


def test_readings_are_far_apart_and_alpha_of_0_asks_for_nothing() -> None:
    watch = EntropyWatch(lambda target: 0.1, None)
    assert _messages(watch, [(update, {"entropy": 0.0, "alpha": 1.0}) for update in range(1, 5_000)]) == {}
    (found,) = _messages(watch, [(5_000, {"entropy": 0.0, "alpha": 1.0})]).values()
    assert found == (
        "policy entropy has collapsed: 0 nats at update 5000, and below 0.1 for 10 readings: raise ent_coef, 1 "
        "now, or let 'auto' hold a target"
    )
    for metrics in ({"entropy": 0.0, "alpha": 0.0}, {"entropy": 0.0}, {"alpha": 1.0}):
        silent = EntropyWatch(lambda target: 0.1, None)
        assert _messages(silent, [(500 * reading, metrics) for reading in range(1, 30)]) == {}


def test_an_upper_bound_is_violated_from_above() -> None:
    problem = DualProblem(0.2, "upper", "log_alpha", None, None)
    rows = [(500 * n, {"entropy": 0.6, "alpha": 2.0**n, "target_entropy": 0.2}) for n in range(1, 20)]
    (found,) = _messages(EntropyWatch(lambda target: 0.01 if target is None else 9.0, problem), rows).values()
    assert found.startswith("temperature runs away: 2.05e+03 at update 5500")
    assert "entropy is still 0.4 nats from its target" in found


@pytest.fixture
def at_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "EVERY", 1)


def test_an_agent_says_that_its_temperature_runs_away(build: Build, at_every_update: None) -> None:
    agent = build(SAC, ent_coef=Dual(0.69, learning_rate=1.0), engine="eager")
    with pytest.warns(TemperatureRunawayWarning, match=r"^temperature runs away: .* at update \d+, ") as said:
        agent.learn(60)
    assert len(said) == 1


def test_a_temperature_for_each_state_is_watched_too(build: Build, at_every_update: None) -> None:
    controller = PerStateDual(torch.nn.Linear(3, 1), target=-0.2, maximum=1e-4)
    agent = build(SAC, ent_coef=controller, learning_rate=0.02, engine="eager")
    with pytest.warns(EntropyWarning) as said:
        agent.learn(120)
    found = {one.category: str(one.message) for one in said}
    assert found.keys() == {EntropyCollapseWarning, TemperatureRunawayWarning}
    text = "temperature has been at its maximum, 0.0001, for 10 readings up to update"
    assert found[TemperatureRunawayWarning].startswith(text)


def test_discrete_sac_says_that_its_policy_has_collapsed(build: Build, bandit: Any, at_every_update: None) -> None:
    agent = build(DiscreteSAC, env=bandit(), ent_coef=Fixed(1e-4), learning_rate=0.03, engine="eager")
    with pytest.warns(EntropyCollapseWarning, match=r"below 0\.0347 for 10 readings: raise ent_coef, 0\.0001 now"):
        agent.learn(120)


def test_members_of_a_population_are_named(at_every_update: None) -> None:
    envs = iter([_pendulum(), _pendulum("observation", 40)])
    settings = {"policy_kwargs": {"net_arch": [16]}, "learning_starts": 20, "batch_size": 16, "device": "cpu"}
    population = SACPopulation(
        "MlpPolicy",
        lambda: next(envs),
        [7, 8],
        ent_coef=lambda: Dual(0.69, learning_rate=1.0),
        engine="eager",
        **settings,
    )
    message = (
        r"^member 1 \(seed 8\): observation of environment 0 became nan in element \(2,\) at environment step 40"
    )
    with pytest.warns(TemperatureRunawayWarning) as said, pytest.raises(FloatingPointError, match=message):
        population.learn(200)
    assert {str(one.message).split(" of ")[1].split(",")[0] for one in said} == {
        "member 0 (seed 7)",
        "member 1 (seed 8)",
    }


def test_a_watch_is_no_part_of_a_zip(build: Build, tmp_path: Path) -> None:
    agent = build(SAC).learn(30)
    agent.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env=gym.make("Pendulum-v1"))
    assert loaded.entropy_watch.state_dict() == EntropyWatch(lambda target: 0.0, None).state_dict()
    assert loaded.learn(30)._n_updates == 20
