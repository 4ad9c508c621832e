"""Small environments whose state lies in many places."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

Step = tuple[Any, float, bool, bool, dict[str, Any]]


def _box(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


class Goal(gym.Env[Any, Any]):
    """A point in a plane that is to reach a goal within seven steps."""

    observation_space = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), _box(2)))
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at, self.goal, self.steps = self.np_random.normal(size=2), self.np_random.normal(size=2), 0
        return self._observation(), {}

    def step(self, action: Any) -> Step:
        self.at, self.steps = self.at + 0.3 * action, self.steps + 1
        seen = self._observation()
        reward = float(self.compute_reward(seen["achieved_goal"], seen["desired_goal"], {}))
        return seen, reward, reward == 0.0, self.steps == 7, {"is_success": reward == 0.0}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.8).astype(np.float32)

    def _observation(self) -> dict[str, np.ndarray]:
        at, goal = self.at.astype(np.float32), self.goal.astype(np.float32)
        return {"observation": at, "achieved_goal": at.copy(), "desired_goal": goal}


class Odd(gym.Env[Any, Any]):
    """Observations under names that no file can have, of a dtype that safetensors lacks."""

    observation_space = spaces.Dict({"a/b": spaces.Box(0, 999, (2,), np.uint16), "a b": _box(1), "a-b": _box(1)})
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: Any) -> Step:
        return self._observation(), float(action[0]), bool(self.np_random.random() < 0.1), False, {}

    def _observation(self) -> dict[str, np.ndarray]:
        depth = self.np_random.integers(0, 999, 2).astype(np.uint16)
        return {"a/b": depth, **{name: self.np_random.normal(size=1).astype(np.float32) for name in ("a b", "a-b")}}


class Rough(gym.Wrapper[Any, Any, Any, Any]):
    """Rewards with noise from the generators of the process, and episodes that are a success or not."""

    def step(self, action: Any) -> Step:
        observation, reward, terminated, truncated, info = self.env.step(action)
        noise = random.random() + np.random.random() + torch.rand(()).item()
        if terminated or truncated:
            info["is_success"] = noise > 1.5
        return observation, float(reward) + noise, terminated, truncated, info


class Drawing(gym.Env[Any, Any]):
    """Draws from every generator there is: of Python, NumPy and torch, of the process and of its own."""

    observation_space, action_space = _box(6), spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.torch, self.python = torch.Generator(), random.Random(seed)
            self.torch.manual_seed(seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Step:
        self.steps += 1
        return self._observation(), float(action[0]), False, self.steps == 9, {}

    def _observation(self) -> np.ndarray:
        drawn = (random.random(), np.random.random(), self.np_random.random(), self.python.random())
        of_torch = (torch.rand(()).item(), torch.rand((), generator=self.torch).item())
        return np.array([*drawn, *of_torch], dtype=np.float32)
