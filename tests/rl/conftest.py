"""What the tests of the agents share: small agents, comparisons, environments with known answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from entroreg.agents import SAC
from entroreg.agents.engine import compiling


def _build(cls: Any, env: Any = "Pendulum-v1", policy: Any = "MlpPolicy", **settings: Any) -> Any:
    defaults = {
        "policy_kwargs": {"net_arch": [16]},
        "learning_starts": 20,
        "batch_size": 16,
        "buffer_size": 1000,
        "seed": 0,
        "device": "cpu",
    }
    return cls(policy, env, **{**defaults, **settings})


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """A factory of small agents of any class."""
    return _build


def _tensors(agent: Any) -> dict[str, Tensor]:
    found = {f"policy.{name}": value for name, value in agent.policy.state_dict().items()}
    optimizers = {
        "actor": agent.actor.optimizer,
        "critic": agent.critic.optimizer,
        "alpha": agent.ent_coef_optimizer,
    }
    for name, optimizer in optimizers.items():
        if optimizer is None:
            continue
        state = optimizer.state_dict()
        for index, moments in state["state"].items():
            found |= {f"{name}.{index}.{key}": value for key, value in moments.items()}
        found[f"{name}.lr"] = torch.tensor([group["lr"] for group in state["param_groups"]], dtype=torch.float64)
    constant = agent.ent_coef_optimizer is None
    found["ent_coef"] = (agent.ent_coef_tensor if constant else agent.log_ent_coef).detach().reshape(())
    return {name: value.detach().clone() for name, value in found.items()}


@pytest.fixture(scope="session")
def tensors() -> Callable[[Any], dict[str, Tensor]]:
    """All that an agent has learned, by name: networks, moments of the optimisers, learning rates, coefficient."""
    return _tensors


def _differences(ours: Any, theirs: Any) -> dict[str, float]:
    first, second = _tensors(ours), _tensors(theirs)
    assert first.keys() == second.keys()
    return {name: float((first[name].double() - second[name].double()).abs().max()) for name in first}


@pytest.fixture(scope="session")
def differences() -> Callable[[Any, Any], dict[str, float]]:
    """The largest absolute difference of two agents in each tensor."""
    return _differences


class Bandit(gym.Env[np.ndarray, int]):
    """A contextual bandit: two states, two actions, reward 1 where the action has the number of the state."""

    observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(2))
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._observation(), float(action == self.state), True, False, {}

    def _observation(self) -> np.ndarray:
        return np.eye(2, dtype=np.float32)[self.state]


@pytest.fixture(scope="session")
def bandit() -> type[Bandit]:
    return Bandit


class NanReward(gym.Wrapper):
    """Rewards are NaN after a number of steps."""

    def __init__(self, env: gym.Env[Any, Any], after: int = 30) -> None:
        super().__init__(env)
        self.left = after

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.left -= 1
        return observation, (reward if self.left >= 0 else float("nan")), terminated, truncated, info


@pytest.fixture(scope="session")
def nan_reward() -> type[NanReward]:
    return NanReward


def two_actions() -> gym.Env[Any, Any]:
    """Pendulum with a second action that does nothing, and a short time limit."""
    env = gym.make("Pendulum-v1", max_episode_steps=40)
    return gym.wrappers.TransformAction(env, lambda a: a[:1], spaces.Box(-2.0, 2.0, (2,), np.float32))


def _in_double(extractor: type[BaseFeaturesExtractor]) -> type[BaseFeaturesExtractor]:
    class Double(extractor):  # type: ignore[valid-type, misc]
        def forward(self, observations: Any) -> Tensor:
            if isinstance(observations, dict):
                return super().forward({key: value.double() for key, value in observations.items()})
            return super().forward(observations.double())

    return Double


class Twins:
    """An agent on the engine and an eager one: one replay buffer, one state, in which training has begun.

    Args:
        settings: makes the arguments of the agent, anew for each of the two.
        double: whether all that is learned is float64.
        cls: class of the agent.
    """

    def __init__(
        self, settings: Callable[[], dict[str, Any]] = dict, *, double: bool = False, cls: Any = SAC
    ) -> None:
        self.cls = cls
        self.batch_size: int = settings().get("batch_size", 32)
        self.engine, self.eager = (self._make(engine, settings(), double) for engine in ("compiled", "eager"))
        self.engine.learn(150 * self.engine.n_envs)
        self.eager.learn(0)
        self.eager.replay_buffer = buffer = self.engine.replay_buffer
        self.eager._vec_normalize_env = self.engine._vec_normalize_env
        buffer.dones[::7], buffer.timeouts[::21] = 1.0, 1.0  # Pendulum has no ends but those of the time limit
        set_random_seed(11)
        self.eager.train(50, self.batch_size)
        self.copy(self.eager, self.engine)

    def _make(self, engine: str, settings: dict[str, Any], double: bool) -> Any:
        policy = {"net_arch": [32, 32], **settings.pop("policy_kwargs", {})}
        if double:
            policy["features_extractor_class"] = _in_double(
                policy.get("features_extractor_class", FlattenExtractor)
            )
        env = settings.pop("env", None) or (two_actions() if self.cls is SAC else "CartPole-v1")
        defaults = {"batch_size": 32, "learning_starts": 100_000}
        agent = _build(self.cls, env=env, engine=engine, policy_kwargs=policy, **{**defaults, **settings})
        if double:
            agent.policy.double()
            if agent.log_ent_coef is not None:
                agent.log_ent_coef.data = agent.log_ent_coef.data.double()
        return agent

    @staticmethod
    def copy(source: Any, target: Any) -> None:
        """Give one agent all that another has learned."""
        target.policy.load_state_dict(source.policy.state_dict())
        for ours, theirs in ((target.actor, source.actor), (target.critic, source.critic)):
            ours.optimizer.load_state_dict(copy.deepcopy(theirs.optimizer.state_dict()))
        target.controller.load_state_dict(source.controller.state_dict())
        target._n_updates = source._n_updates

    def train(self, updates: int, *, seed: int = 0, calls: int = 1) -> None:
        """Train both on the same batches with the same noise."""
        for agent in (self.engine, self.eager):
            self.train_one(agent, updates, seed=seed, calls=calls)

    def train_one(self, agent: Any, updates: int, *, seed: int = 0, calls: int = 1) -> None:
        """Train an agent from a seed, with the progress of a training over the calls."""
        set_random_seed(seed)
        for call in range(calls):
            agent._current_progress_remaining = 1.0 - call / calls
            agent.train(updates // calls, self.batch_size)

    def distances(self) -> dict[str, float]:
        """How far the two are apart."""
        return apart(self.engine, self.eager)


def apart(first: Any, second: Any) -> dict[str, float]:
    """Norm of the difference of two agents over norm: of each network, each kind of moment, the steps and alpha."""
    ours, theirs = _learned(first), _learned(second)
    assert ours.keys() == theirs.keys()
    return {name: float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in ours}


def _learned(agent: Any) -> dict[str, Tensor]:
    """All that an agent has learned, as one float64 vector for each network and each kind of moment."""

    def flat(tensors: Any) -> Tensor:
        return torch.cat([tensor.detach().double().flatten() for tensor in tensors])

    networks = {"actor": agent.actor, "critic": agent.critic, "critic_target": agent.critic_target}
    if hasattr(agent.policy, "actor_target"):
        networks["actor_target"] = agent.policy.actor_target
    found = {name: flat(network.state_dict().values()) for name, network in networks.items()}
    optimizers = {"actor": agent.actor.optimizer, "critic": agent.critic.optimizer}
    if getattr(agent.controller, "optimizer", None) is not None:
        optimizers["alpha"] = agent.controller.optimizer
        found["alpha"] = flat(agent.controller.optimizer.param_groups[0]["params"])
    for name, optimizer in optimizers.items():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            found[f"{name}.{key}"] = flat(entry[key] for entry in optimizer.state.values())
    found["coefficient"] = agent.ent_coef_tensor.double() if agent.log_ent_coef is None else found["alpha"].exp()
    return found


@pytest.fixture(scope="session")
def twins() -> type[Twins]:
    """Pairs of an agent on the engine and an eager one."""
    return Twins


@pytest.fixture(scope="session")
def _made() -> dict[str, Any]:
    return {}


@pytest.fixture
def pair(_made: dict[str, Any]) -> Twins:
    """One compiled agent and its eager twin for all tests that leave them whole, each time in the same state."""
    if not _made:  # here, where the number of threads is the tests'
        fresh = Twins()
        _made.update(pair=fresh, start=copy.deepcopy(fresh.eager), buffer=fresh.eager.replay_buffer)
        fresh.train(1)
    pair, start = _made["pair"], _made["start"]
    for agent in (pair.engine, pair.eager):
        pair.copy(start, agent)
        agent.gamma, agent.tau, agent.target_update_interval = start.gamma, start.tau, start.target_update_interval
        agent.controller.problem = copy.deepcopy(start.controller.problem)
        agent.learning_rate, agent.replay_buffer = 3e-4, _made["buffer"]
        agent._setup_lr_schedule()
    return pair


@pytest.fixture(scope="session", name="apart")
def _apart() -> Callable[[Any, Any], dict[str, float]]:
    return apart


@pytest.fixture(scope="session")
def two_actions_env() -> Callable[[], gym.Env[Any, Any]]:
    return two_actions


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the engine run its update as it is written: the same arithmetic, with no wait for a compiler."""
    monkeypatch.setattr(compiling, "compile_update", lambda update, device: update)
