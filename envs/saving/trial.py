"""Whether an environment's state is seen as a whole, found out by trying it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np

from entroreg.envs.saving.environment_state import environment_state, load_environment_state
from entroreg.state_tree import join_state, split_state

_STEPS = 25  # before the save, after it, and in the next episode
_Env = gymnasium.Env[Any, Any]


def why_not_exact(make: Callable[[], gymnasium.Env[Any, Any]]) -> str | None:
    """Return why an environment cannot go on exactly from a saved state, or None where it did.

    One environment is saved in the middle of an episode and steps on, into the next one. Then a new environment
    takes the state, and must see the same to the last bit at the same actions.

    Args:
        make: returns a new environment at each call.

    Returns:
        A reason in words, or None.
    """
    env = make()
    try:
        env.reset(seed=1)
        env.action_space.seed(3)
        actions = [env.action_space.sample() for _ in range(3 * _STEPS)]
        for action in actions[:_STEPS]:
            _advance(env, action)
        state = split_state(environment_state(env))
        seen = [copy.deepcopy(one) for one in _seen(env, actions[_STEPS:])]
    except ValueError as error:
        return str(error)
    finally:
        env.close()
    return _why_not(make, join_state(*state), actions[_STEPS:], seen)


def _why_not(make: Callable[[], _Env], state: dict[str, Any], actions: list[Any], seen: list[Any]) -> str | None:
    env = make()
    try:
        env.reset(seed=2)
        load_environment_state(env, state)
        for step, (now, then) in enumerate(zip(_seen(env, actions), seen, strict=True)):
            if not _same(now, then):
                return f"two environments with the same state differed at step {step + 1} from there"
    except ValueError as error:
        return str(error)
    finally:
        env.close()
    return None


def _seen(env: _Env, actions: list[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield what is seen at each action, with a new episode half way."""
    for index, action in enumerate(actions):
        if index == _STEPS:
            yield (env.reset()[0],)
        yield _advance(env, action)


def _advance(env: _Env, action: Any) -> tuple[Any, ...]:
    """Take a step, and begin the next episode where this one has ended; return what was seen."""
    observation, reward, terminated, truncated, _ = env.step(action)
    if not (terminated or truncated):
        return observation, reward, terminated, truncated
    return observation, reward, terminated, truncated, env.reset()[0]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return np.asarray(left).tobytes() == np.asarray(right).tobytes()
