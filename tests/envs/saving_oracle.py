"""An undisturbed environment beside one that got its state, step by step, to the last bit."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from entroreg.envs.saving import environment_state, load_environment_state
from entroreg.state_tree import join_state, split_state

# Times of day and how long an episode took, which differ between any two runs.
CLOCK = re.compile(r"\.(episode_times|episode_start_time|time_queue)\b")
AFTER = 60  # steps side by side, with a reset half way
_UNLIKE = float("inf")


def through_json(state: Any) -> Any:
    """Return a state as a checkpoint gives it back."""
    tensors, tree = split_state(state)
    return join_state(tensors, json.loads(json.dumps(tree, sort_keys=True, allow_nan=False)))


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by path."""
    if isinstance(tree, dict):
        parts = [(f".{name}", tree[name]) for name in sorted(tree)]
    elif isinstance(tree, list | tuple):
        parts = [(f"[{index}]", item) for index, item in enumerate(tree)]
    else:
        return {path: tree}
    found = {f"{path}#": (type(tree).__name__, len(tree))}
    for name, item in parts:
        found |= leaves(item, path + name)
    return found


def difference(first: Any, second: Any) -> float:
    """Return the largest absolute difference of two leaves; infinity where they are alike in nothing."""
    if type(first) is not type(second):
        return _UNLIKE
    if isinstance(first, torch.Tensor):
        first, second = first.numpy(), second.numpy()
    if not isinstance(first, np.ndarray | np.generic | float):
        return 0.0 if first == second else _UNLIKE
    one, other = np.asarray(first), np.asarray(second)
    same = (one.dtype, one.shape) == (other.dtype, other.shape)
    if same and one.tobytes() == other.tobytes():
        return 0.0
    gaps = np.abs(one.astype(float) - other.astype(float)) if same and one.dtype.kind in "biuf" else np.zeros(1)
    return float(gaps.max()) or _UNLIKE  # where only a sign or the bits of a NaN differ


def differences(first: Any, second: Any) -> dict[str, float]:
    """Return the differences of the leaves of two trees that are not the same, by path."""
    return of_leaves(leaves(first), leaves(second))


def of_leaves(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Return the same of two trees whose leaves are known."""
    found = {path: difference(one[path], other[path]) for path in one.keys() & other.keys()}
    found |= dict.fromkeys(one.keys() ^ other.keys(), _UNLIKE)
    return {path: gap for path, gap in found.items() if gap > 0.0 and not CLOCK.search(path)}


def reset(env: Any, seed: int | None = None) -> Any:
    """Begin an episode, also of a vector of environments."""
    if isinstance(env, VecEnv):
        if seed is not None:
            env.seed(seed)
        return env.reset()
    return env.reset(seed=seed)[0]


def advance(env: Any, action: Any) -> list[Any]:
    """Take a step and return all that is seen; an episode that ended is followed by the next one."""
    observation, reward, *ends, info = env.step(action)
    if isinstance(env, VecEnv):
        episodes = [one.get("episode", {}) for one in info]
        sampled = env.action_space.sample()
        return [observation, reward, ends[0], [(one.get("r"), one.get("l")) for one in episodes], sampled]
    episode = info.get("episode", {})
    seen = [observation, reward, *ends, episode.get("r"), episode.get("l"), env.action_space.sample()]
    return [*seen, reset(env)] if any(ends) else seen


def actions_of(env: Any, count: int, seed: int) -> list[Any]:
    """Return actions, drawn without touching the environment's own generators."""
    space = copy.deepcopy(env.action_space)
    space.seed(seed)
    one = [space.sample() for _ in range(count * getattr(env, "num_envs", 1))]
    if not isinstance(env, VecEnv):
        return one
    return [np.stack(one[index::count]) for index in range(count)]


def trace(env: Any, actions: list[Any]) -> Iterator[list[Any]]:
    """Yield what is seen at each action, with a new episode half way."""
    for index, action in enumerate(actions):
        if index == len(actions) // 2:
            yield [reset(env)]
        yield advance(env, action)


def future(env: Any, steps: int = AFTER) -> dict[str, Any]:
    """Return all that is seen in the steps to come, and the complete state now and then."""
    found: dict[str, Any] = {}
    for index, seen in enumerate(trace(env, actions_of(env, steps, 7)), 1):
        found[f"seen {index}"] = copy.deepcopy(seen)
        if index in (1, steps + 1):
            found[f"state {index}"] = environment_state(env)
    return found


@dataclass
class Comparison:
    """How far an environment that got a state is from the undisturbed one: differences by path."""

    at_once: dict[str, float]
    """Of the complete states right after it got it."""
    later: dict[str, float]
    """Of observations, rewards and the rest of the steps to come, and of the complete states then."""

    @property
    def largest(self) -> float:
        """The largest of all."""
        return max([*self.at_once.values(), *self.later.values()], default=0.0)


def saved_at(make: Callable[[], Any], steps: int, seed: int = 3) -> Any:
    """Return an environment after some steps."""
    env = make()
    reset(env, seed)
    env.action_space.seed(seed)
    for action in actions_of(env, steps, seed):
        advance(env, action)
    return env


def compare(make: Callable[[], Any], steps: int) -> Comparison:
    """Save an environment after some steps, give the state to a new one, and let both go on."""
    first, second = saved_at(make, steps), make()
    reset(second, 99)
    for action in actions_of(second, 5, 99):  # it was somewhere else
        advance(second, action)
    load_environment_state(second, through_json(environment_state(first)))
    at_once = differences(environment_state(first), environment_state(second))
    found = Comparison(at_once, differences(future(first), future(second)))
    first.close()
    second.close()
    return found
