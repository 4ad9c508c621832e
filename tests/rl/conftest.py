"""What the tests of the agents share: small agents, comparisons, environments with known answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
