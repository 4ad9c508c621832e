"""A task whose actions are a mixture of the protagonist's and of an adversary's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.envs.tasks import Env


@dataclass(frozen=True)
class ActionShare:
    """What an adversary has in place of forces: a share of each action.

    Raises:
        TypeError: no number.
        ValueError: not in (0, 1].
    """

    share: float = 0.1
    """delta, in (0, 1]."""

    def __post_init__(self) -> None:
        _checks.require_fraction("share", self.share)

    def applied_to(self, env: Env) -> MixedActions:
        """Return a task under this influence."""
        return MixedActions(env, self.share)


class MixedActions(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    r"""A task with continuous actions, of which an adversary has a share.

    $$a = (1 - \delta)\, a_\text{protagonist} + \delta\, a_\text{adversary}$$

    Args:
        env: a task whose actions are bounded vectors.
        share: delta, in (0, 1].

    Attributes:
        scale: share of delta that is in force, a curriculum's to move.
        force_space: of ``push``: (A,) in [-1, 1], the ends of the action range.

    Raises:
        TypeError: actions that are no vectors.
        ValueError: unbounded actions.

    Reference:
        Tessler et al. (2019), "Action Robust Reinforcement Learning and Applications in Continuous Control",
        arXiv 1901.09184.
    """

    def __init__(self, env: Env, share: float) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, share=share)
        gymnasium.Wrapper.__init__(self, env)
        space = env.action_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise TypeError(f"expected vectors as actions, got {space}")
        if not space.is_bounded():
            raise ValueError(f"expected bounded actions, got {space}")
        self._middle, self._half = (space.high + space.low) / 2.0, (space.high - space.low) / 2.0
        self._share = share
        self.scale = 1.0
        self.force_space = spaces.Box(-1.0, 1.0, space.shape, np.float32)
        self._pushed: NDArray[Any] | None = None

    def push(self, shares: NDArray[Any]) -> None:
        """Mix this action of the adversary in from the next step on.

        Args:
            shares: (A,) in [-1, 1]; clipped.
        """
        self._pushed = self._middle + self._half * np.minimum(np.maximum(shares, -1.0), 1.0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, with nothing mixed in."""
        self._pushed = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a control step."""
        if self._pushed is not None:
            share = self._share * self.scale
            action = ((1.0 - share) * np.asarray(action) + share * self._pushed).astype(self.action_space.dtype)
        return self.env.step(action)
