"""The two sides of one adversarial task, each an ordinary Gymnasium environment with the other player inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from numpy.typing import NDArray

from entroreg.envs.tasks import Env

Opponent: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""From an observation to what the other player does: shares of the force limit, or the task's action."""


class ProtagonistView(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """The task, with an adversary that pushes.

    Args:
        env: a ``PushedTask``, possibly wrapped.
        opponent: the adversary; None for one that does nothing.
    """

    def __init__(self, env: Env, opponent: Opponent | None = None) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, _disable_deepcopy=True, opponent=opponent)
        gymnasium.Wrapper.__init__(self, env)
        self.opponent = opponent
        self._push = env.get_wrapper_attr("push")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a control step while the adversary pushes."""
        if self.opponent is not None:
            self._push(self.opponent(self._observation))
        found = self.env.step(action)
        self._observation = found[0]
        return found


class AdversaryView(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """The adversary's side of the task: its actions are forces, its reward is what the protagonist loses.

    Args:
        env: a ``PushedTask``, possibly wrapped.
        opponent: the protagonist; None for one that takes the action nearest to 0.
    """

    def __init__(self, env: Env, opponent: Opponent | None = None) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, _disable_deepcopy=True, opponent=opponent)
        gymnasium.Wrapper.__init__(self, env)
        self.opponent = opponent
        self._push = env.get_wrapper_attr("push")
        self.action_space = env.get_wrapper_attr("force_space")
        space: Any = env.action_space
        self._idle = np.clip(np.zeros_like(space.low), space.low, space.high)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Push, and let the protagonist act."""
        self._push(action)
        protagonist = self._idle if self.opponent is None else self.opponent(self._observation)
        self._observation, reward, *rest = self.env.step(protagonist)
        return (self._observation, -float(reward), *rest)
