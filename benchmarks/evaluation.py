"""Returns of a policy over seeded episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

Act = Callable[[Any], Any]


def episode_returns(
    act: Act, env: gym.Env[Any, Any], episodes: int, seed: int, *, stop: Callable[[], bool] = lambda: False
) -> list[float]:
    """Return the undiscounted returns of a policy, one for each episode.

    Every episode has its own seed, derived from ``seed``, so two policies can be compared on the same starts.

    Args:
        act: from an observation to an action.
        env: environment.
        episodes: number of episodes, at least 1.
        seed: of the starts.
        stop: asked before each episode and step; True ends at once.

    Returns:
        The returns; fewer than asked for if stopped.
    """
    returns: list[float] = []
    for episode_seed in np.random.SeedSequence(seed).generate_state(episodes):
        if stop():
            break
        observation, _ = env.reset(seed=int(episode_seed))
        total, ended = 0.0, False
        while not ended and not stop():
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total += float(reward)
            ended = terminated or truncated
        returns.append(total)
    return returns


def discounted_returns(
    act: Act,
    env: gym.Env[Any, Any],
    episodes: int,
    seed: int,
    gamma: float,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Return the discounted returns of a policy, one for each episode; starts as in ``episode_returns``.

    Args:
        act: from an observation to an action.
        env: environment.
        episodes: number of episodes.
        seed: of the starts.
        gamma: discount.
        stop: asked before each episode and step; True ends at once, and leaves the returns incomplete.
    """
    returns: list[float] = []
    for episode_seed in np.random.SeedSequence(seed).generate_state(episodes):
        if stop():
            break
        observation, _ = env.reset(seed=int(episode_seed))
        total, discount, ended = 0.0, 1.0, False
        while not ended and not stop():
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total += discount * float(reward)
            discount *= gamma
            ended = terminated or truncated
        returns.append(total)
    return returns


def random_policy(env: gym.Env[Any, Any], seed: int) -> Act:
    """Return a policy that draws uniform actions from the environment's action space.

    Args:
        env: environment; its action space is seeded.
        seed: of the actions.

    Returns:
        The policy.
    """
    env.action_space.seed(seed)
    return lambda _observation: env.action_space.sample()


def greedy_policy(agent: Any) -> Act:
    """Return the deterministic policy of an agent of Stable-Baselines3's kind."""
    return lambda observation: agent.predict(observation, deterministic=True)[0]
