"""The episode length that ``gymnasium.make`` was asked for, made known to the task."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit


class EpisodeClock(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Set the task's ``max_episode_steps`` to that of the ``TimeLimit`` around it.

    ``gymnasium.make(..., max_episode_steps=n)`` keeps n for its own ``TimeLimit`` and does not pass it on: the
    share of time that is left, which is observed, would be of another length, and a longer episode would be cut.
    The task is registered with this wrapper.

    Args:
        env: a navigation environment; without a ``TimeLimit`` around it, it stays as it is.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        layer: Any = env
        while isinstance(layer, gymnasium.Wrapper):
            if isinstance(layer, TimeLimit):
                layer.unwrapped.max_episode_steps = layer._max_episode_steps  # type: ignore[attr-defined]
                return
            layer = layer.env
