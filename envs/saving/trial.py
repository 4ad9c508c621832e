"""Whether an environment's state is seen as a whole, found out by trying it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np

from entroreg.envs.saving.classes import CannotSaveError
from entroreg.envs.saving.python_state import environment_state, load_environment_state

_STEPS = 25  # before and after


def why_not_exact(make: Callable[[], gymnasium.Env[Any, Any]]) -> str | None:
    """Return why an environment cannot go on exactly from a saved state, or None where it did.

    One environment is saved in the middle of an episode; another one takes the state; then both take the same
    steps, a reset among them, and must see the same to the last bit.

    Args:
        make: returns a new environment at each call.

    Returns:
        A reason in words, or None.
    """
    first, second = make(), make()
    try:
        first.reset(seed=1)
        second.reset(seed=2)
        first.action_space.seed(3)
        for action in _actions(first):
            _advance(first, action)
        load_environment_state(second, environment_state(first))
        for action in _actions(first):
            if not _same(_advance(first, action), _advance(second, action)):
                return "two environments with the same state did not take the same step"
        if not _same(first.reset()[0], second.reset()[0]):
            return "two environments with the same state did not begin the same episode"
    except (CannotSaveError, ValueError) as error:
        return str(error)
    finally:
        first.close()
        second.close()
    return None


def _actions(env: gymnasium.Env[Any, Any]) -> Iterator[Any]:
    # Not drawn while two environments are compared: a space's own generator is a part of the state.
    yield from [env.action_space.sample() for _ in range(_STEPS)]


def _advance(env: gymnasium.Env[Any, Any], action: Any) -> tuple[Any, ...]:
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
