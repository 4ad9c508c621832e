"""DiscreteSAC: its losses by hand, the interface of SAC, and problems whose solution is known."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBufferSamples
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn

from entroreg import Dual, Fixed, PerStateDual, Scheduled
from entroreg.agents import DiscreteSAC
from entroreg.schedules import LinearSchedule

Build = Callable[..., Any]


def _discrete(build: Build, env: Any = "CartPole-v1", **settings: Any) -> Any:
    return build(DiscreteSAC, env=env, **settings)


def _probs(agent: Any, observations: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return agent.actor.log_probs(torch.as_tensor(observations)).exp().numpy()


class BatchNormExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space, features_dim=8)
        self.layers = nn.Sequential(nn.Linear(observation_space.shape[0], 8), nn.BatchNorm1d(8), nn.Tanh())

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)


def _batch(discounts: bool, size: int = 12) -> ReplayBufferSamples:
    generator = np.random.default_rng(3)

    def draw(*shape: int) -> Tensor:
        return torch.as_tensor(generator.uniform(-1.0, 1.0, shape), dtype=torch.float32)

    return ReplayBufferSamples(
        observations=draw(size, 4),
        actions=torch.as_tensor(generator.integers(0, 2, (size, 1))),
        next_observations=draw(size, 4),
        dones=torch.as_tensor(generator.integers(0, 2, (size, 1)), dtype=torch.float32),
        rewards=draw(size, 1),
        discounts=torch.as_tensor(generator.choice([0.9, 0.81, 0.729], (size, 1))).float() if discounts else None,
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "double average": {"double_average_q": True},
    "no backup": {"entropy_backup": False},
    "clip": {"q_clip": 0.05},
    "penalty": {"entropy_penalty": 0.5},
    "all": {"double_average_q": True, "q_clip": 0.05, "entropy_penalty": 0.5, "n_steps": 3},
}
COEFFICIENTS: dict[str, Callable[[], Any]] = {
    "fixed": lambda: Fixed(0.3),
    "dual": lambda: Dual(target=0.5, initial=0.3, learning_rate=0.5),
    "per state": lambda: PerStateDual(nn.Linear(4, 1), target=0.5, learning_rate=0.5),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_losses_by_hand(variant: str, kind: str, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"policy_kwargs": {"net_arch": [16]}, "learning_rate": 0.01, "tau": 0.05}
    agent = _discrete(build, ent_coef=COEFFICIENTS[kind](), gamma=0.95, **options, **VARIANTS[variant]).learn(50)
    batch = _batch(discounts=variant == "all")
    before = copy.deepcopy(agent)
    monkeypatch.setattr(agent.replay_buffer, "sample", lambda *_, **__: batch)
    agent.train(1, 12)
    critic, actor, entropy = _losses_by_loop(before, batch)
    log = agent.logger.name_to_value
    assert log["train/critic_loss"] == pytest.approx(critic, rel=1e-4)
    assert log["train/actor_loss"] == pytest.approx(actor, rel=1e-4, abs=1e-6)
    assert log["train/entropy"] == pytest.approx(entropy, rel=1e-5)


def _losses_by_loop(agent: Any, batch: ReplayBufferSamples) -> tuple[float, float, float]:
    """Critic loss, actor loss and entropy, from the networks before the update, row by row and action by action."""

    def alpha(observations: Tensor, row: int) -> float:
        if isinstance(agent.controller, PerStateDual):
            return math.exp(float(agent.controller.log_alpha(observations[row : row + 1]).detach()))
        return float(agent.controller.value)

    with torch.no_grad():
        q_now, q_old = agent.critic(batch.observations), agent.critic_target(batch.observations)
        q_next = agent.critic_target(batch.next_observations)
        log_now, log_next = (
            agent.actor.log_probs(batch.observations),
            agent.actor.log_probs(batch.next_observations),
        )
        log_reference = agent.policy.actor_target.log_probs(batch.observations)

    def pooled(q_values: Any, row: int, action: int) -> float:
        pair = [float(q[row, action]) for q in q_values]
        return sum(pair) / 2 if agent.double_average_q else min(pair)

    critic = actor = mean_entropy = 0.0
    size = len(batch.rewards)
    for row in range(size):
        value = 0.0
        for action in range(2):
            log_prob = float(log_next[row, action])
            bonus = alpha(batch.next_observations, row) * log_prob if agent.entropy_backup else 0.0
            value += math.exp(log_prob) * (pooled(q_next, row, action) - bonus)
        discount = 0.95 if batch.discounts is None else float(batch.discounts[row])
        target = float(batch.rewards[row]) + (1.0 - float(batch.dones[row])) * discount * value
        taken = int(batch.actions[row])
        for index in range(2):
            q, old = float(q_now[index][row, taken]), float(q_old[index][row, taken])
            error = (q - target) ** 2
            if agent.q_clip is not None:
                error = max(error, (old + min(max(q - old, -agent.q_clip), agent.q_clip) - target) ** 2)
            critic += 0.5 * error / size
        entropy = -sum(math.exp(p) * p for p in log_now[row].tolist())
        reference = -sum(math.exp(p) * p for p in log_reference[row].tolist())
        for action in range(2):
            log_prob = float(log_now[row, action])
            soft = pooled(q_now, row, action) - alpha(batch.observations, row) * log_prob
            actor -= math.exp(log_prob) * soft / size
        actor += agent.entropy_penalty * (reference - entropy) ** 2 / size
        mean_entropy += entropy / size
    return critic, actor, mean_entropy


def test_batch_norm_statistics_reach_the_targets(build: Build) -> None:
    kwargs = {"net_arch": [16], "features_extractor_class": BatchNormExtractor}
    agent = _discrete(build, policy_kwargs=kwargs, tau=0.0, entropy_penalty=0.5).learn(60)
    state = agent.policy.state_dict()
    names = [name for name in state if "running_" in name and "target" not in name]
    assert {name.split(".")[0] for name in names} == {"actor", "critic"}
    for name in names:
        network, rest = name.split(".", 1)
        assert torch.equal(state[name], state[f"{network}_target.{rest}"])
        assert not torch.equal(state[name], torch.full_like(state[name], float("var" in name)))


def test_default_and_refused_targets(build: Build, bandit: Any) -> None:
    agent = _discrete(build, env=bandit())
    assert agent.target_entropy == pytest.approx(0.7 * math.log(2.0))
    assert _discrete(build, env="Acrobot-v1").target_entropy == pytest.approx(0.7 * math.log(3.0))
    text = r"below 0\.6931 nats, the largest entropy any policy has here, got .*: alpha would grow without limit"
    for settings in ({"target_entropy": math.log(2.0)}, {"target_entropy": 1.0}, {"ent_coef": Dual(0.7)}):
        with pytest.raises(ValueError, match=text):
            _discrete(build, env=bandit(), **settings)
    with pytest.raises(ValueError, match=r"target entropy must be above 0\.0000 nats, the smallest entropy"):
        _discrete(build, env=bandit(), ent_coef=Dual(-0.1, bound="upper"))


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"env": "Pendulum-v1"}, AssertionError, "only supports .*Discrete"),
        ({"q_clip": 0.0}, ValueError, "q_clip must be finite and above 0, got 0.0"),
        ({"entropy_penalty": -1.0}, ValueError, "entropy_penalty must be finite and at least 0, got -1.0"),
        ({"ent_coef": -1.0}, ValueError, "ent_coef must be finite and at least 0, got -1.0"),
        ({"ent_coef": "large"}, ValueError, "ent_coef must be .*, got 'large'"),
    ],
)
def test_wrong_arguments(settings: Any, error: type[Exception], text: str, build: Build) -> None:
    with pytest.raises(error, match=text):
        _discrete(build, **settings)


def test_actions_that_do_not_begin_at_0_are_refused(build: Build, bandit: Any) -> None:
    env = bandit()
    env.action_space = gym.spaces.Discrete(2, start=1)
    with pytest.raises(ValueError, match=r"actions must be numbered from 0, got Discrete\(start=1\): wrap the env"):
        _discrete(build, env=env)


def test_predictions(build: Build) -> None:
    agent = _discrete(build)
    with torch.no_grad():
        agent.actor.logits[-1].bias.copy_(torch.tensor([0.5, -0.5]))
    observations = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32)
    probs = _probs(agent, observations)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-6)
    best, state = agent.predict(observations, deterministic=True)
    assert state is None
    np.testing.assert_array_equal(best, probs.argmax(axis=1))
    count = 4000
    torch.manual_seed(0)
    drawn, _ = agent.predict(np.repeat(observations, count, axis=0))
    shares = drawn.reshape(3, count).mean(axis=1)
    error = 4.0 * np.sqrt(probs[:, 1] * probs[:, 0] / count)  # four standard errors
    assert (np.abs(shares - probs[:, 1]) < error).all()
    single, _ = agent.predict(observations[0])
    assert single.shape == ()
    assert agent.env.action_space.contains(int(single))


@pytest.mark.parametrize(
    "ent_coef",
    [
        lambda: "auto",
        lambda: 0.1,
        lambda: Dual(0.3, maximum=0.5, initial=0.2, learning_rate=0.01),
        lambda: Scheduled(LinearSchedule(0.5, 0.1, steps=100)),
    ],
    ids=["auto", "number", "dual", "scheduled"],
)
def test_a_zip_continues(ent_coef: Any, build: Build, differences: Any, tmp_path: Any) -> None:
    agent = _discrete(build, ent_coef=ent_coef(), q_clip=0.5, entropy_penalty=0.5, double_average_q=True).learn(60)
    agent.save(tmp_path / "agent")
    buffer = io.BytesIO()
    agent.save_replay_buffer(buffer)
    agents = [DiscreteSAC.load(tmp_path / "agent", env=gym.make("CartPole-v1")) for _ in range(2)]
    for loaded in agents:
        assert (loaded.q_clip, loaded.entropy_penalty, loaded.double_average_q) == (0.5, 0.5, True)
        assert type(loaded.controller) is type(agent.controller)
        assert set(differences(loaded, agent).values()) == {0.0}
        buffer.seek(0)
        loaded.load_replay_buffer(buffer)
        loaded.set_random_seed(3)
        loaded.learn(30, reset_num_timesteps=False)
        assert loaded._n_updates == 70
    assert set(differences(*agents).values()) == {0.0}
    assert max(differences(agents[0], agent).values()) > 0.0


def test_a_per_state_alpha_predicts_after_load(build: Build, tmp_path: Any) -> None:
    agent = _discrete(build, ent_coef=COEFFICIENTS["per state"]()).learn(40)
    with pytest.warns(UserWarning, match="for prediction only"):
        agent.save(tmp_path / "agent")
    loaded = DiscreteSAC.load(tmp_path / "agent")
    observations = np.random.default_rng(0).uniform(-1, 1, (5, 4)).astype(np.float32)
    np.testing.assert_array_equal(_probs(loaded, observations), _probs(agent, observations))
    with pytest.raises(RuntimeError, match="can only predict"):
        loaded.train(1)


def _normalized() -> dict[str, Any]:
    return {"env": VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2))}


def _her() -> dict[str, Any]:
    env = BitFlippingEnv(n_bits=3, continuous=False, max_steps=3)
    return {"env": env, "policy": "MultiInputPolicy", "replay_buffer_class": HerReplayBuffer}


def _images() -> dict[str, Any]:
    env = FakeImageEnv(action_dim=3, screen_height=36, screen_width=36, discrete=True)
    return {"env": env, "policy": "CnnPolicy", "buffer_size": 100, "batch_size": 4}


@pytest.mark.parametrize(
    "case",
    [
        lambda: {"env": DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)},
        _normalized,
        _her,
        lambda: {k: v for k, v in _her().items() if k != "replay_buffer_class"},
        _images,
        lambda: {"n_steps": 3},
        lambda: {"gradient_steps": -1, "train_freq": (1, "episode")},
        lambda: {"target_update_interval": 3, "gradient_steps": 2},
        lambda: {"learning_rate": lambda left: 1e-3 * left},
    ],
    ids=["two", "normalized", "HER", "Dict", "images", "n-step", "episodes", "interval", "schedule"],
)
@pytest.mark.filterwarnings(
    "ignore:`n_steps=3` is ignored"
)  # at load, by Stable-Baselines3, and wrongly: it is kept
def test_it_runs_as_their_agents_do(case: Callable[[], Any], build: Build, differences: Any) -> None:
    agent = build(DiscreteSAC, **{"env": "CartPole-v1", **case()}).learn(46)
    assert agent._n_updates > 0
    buffer = io.BytesIO()
    agent.save(buffer)
    buffer.seek(0)
    loaded = DiscreteSAC.load(buffer, env=agent.get_env())
    assert set(differences(loaded, agent).values()) == {0.0}
    assert type(loaded.replay_buffer) is type(agent.replay_buffer)
    assert loaded.replay_buffer_kwargs == agent.replay_buffer_kwargs
    observation = agent.get_env().reset()
    first, second = (one.predict(observation, deterministic=True)[0] for one in (agent, loaded))
    np.testing.assert_array_equal(first, second)


def test_batches_are_normalised_when_sampled(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = build(DiscreteSAC, **_normalized()).learn(60)
    envs = []
    sample = agent.replay_buffer.sample

    def recorded(size: int, env: Any = None) -> Any:
        envs.append(env)
        return sample(size, env=env)

    monkeypatch.setattr(agent.replay_buffer, "sample", recorded)
    agent.train(2, 16)
    assert envs == [agent.get_env()] * 2
    assert isinstance(envs[0], VecNormalize)


def test_the_interval_of_the_polyak_average(build: Build) -> None:
    def followed(interval: int, updates: int) -> bool:
        agent = _discrete(build, tau=1.0, target_update_interval=interval).learn(30)
        agent.train(updates, 16)
        pairs = zip(agent.critic.parameters(), agent.critic_target.parameters(), strict=True)
        return all(torch.equal(now, target) for now, target in pairs)

    assert followed(interval=1, updates=2)
    assert followed(interval=2, updates=1)
    assert not followed(interval=2, updates=2)
    assert followed(interval=2, updates=3)


def test_callbacks(build: Build, tmp_path: Any) -> None:
    evaluation = EvalCallback(
        Monitor(gym.make("CartPole-v1")),
        n_eval_episodes=2,
        eval_freq=25,
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    _discrete(build).learn(60, callback=[evaluation, CheckpointCallback(30, str(tmp_path))])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best_model.zip", "rl_model_30_steps.zip", "rl_model_60_steps.zip"]
    assert DiscreteSAC.load(tmp_path / "best_model").num_timesteps in (25, 50)


def test_a_reward_that_is_nan_stops_the_training(build: Build, nan_reward: Any) -> None:
    with pytest.raises(FloatingPointError, match="reward of environment 0 became nan at environment step 31"):
        _discrete(build, env=nan_reward(gym.make("CartPole-v1")), gradient_steps=2).learn(200)


def test_stock_agents_share_the_interface(build: Build) -> None:
    agent = _discrete(build)
    assert isinstance(agent, stable_baselines3.common.off_policy_algorithm.OffPolicyAlgorithm)
    ours, theirs = (set(build(cls, env=env).learn(30).logger.name_to_value) for cls, env in _PAIR)
    assert theirs - ours == set()


_PAIR = [(DiscreteSAC, "CartPole-v1"), (stable_baselines3.SAC, "Pendulum-v1")]
