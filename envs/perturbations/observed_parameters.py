"""A task whose parameters come from an uncertainty set, as something chooses, and end the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from entroreg.envs.perturbations.wrapper import Perturbed
from entroreg.envs.tasks import Env
from entroreg.envs.uncertainty_sets import UncertaintySet

_STREAM = 0x6F6D656761  # sets the draws of a seed apart from those of anything else


class ObservedParameters(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """A MuJoCo task whose observation ends with its parameters, each from -1 to 1 over its range.

    Args:
        env: as for ``Perturbed``.
        uncertainty_set: ranges of the parameters.
        choose: asked at each reset, with a generator; returns (p,) in [-1, 1]. Uniform draws if left out.

    Raises:
        TypeError: the task is not on MuJoCo, or its observations are no vectors.
        ValueError: unknown name, or a value that no physics has.
    """

    def __init__(
        self,
        env: Env,
        uncertainty_set: UncertaintySet,
        choose: Callable[[np.random.Generator], NDArray[Any]] | None = None,
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(
            self, _disable_deepcopy=True, uncertainty_set=uncertainty_set, choose=choose
        )
        self._ranges = uncertainty_set.ranges
        self._perturbed = Perturbed(env, {one.name: one.low for one in self._ranges})
        gymnasium.Wrapper.__init__(self, self._perturbed)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise TypeError(f"expected vectors as observations, got {space}")
        ends = np.ones(len(self._ranges))
        low, high = np.append(space.low, -ends), np.append(space.high, ends)
        self.observation_space = spaces.Box(low.astype(space.dtype), high.astype(space.dtype), dtype=space.dtype)
        self.choose = choose
        self._rng = np.random.default_rng()
        self._places = np.zeros(len(self._ranges))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with other parameters."""
        if seed is not None:
            self._rng = np.random.default_rng([_STREAM, seed])
        size = len(self._ranges)
        chosen = self._rng.uniform(-1.0, 1.0, size) if self.choose is None else self.choose(self._rng)
        self._places = np.clip(chosen, -1.0, 1.0)
        values = {
            one.name: one.low + 0.5 * (one.high - one.low) * (1.0 + float(place))
            for one, place in zip(self._ranges, self._places, strict=True)
        }
        self._perturbed.perturb(values)
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with_places(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a control step."""
        observation, *rest = self.env.step(action)
        return (self._with_places(observation), *rest)  # type: ignore[return-value]

    def _with_places(self, observation: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([observation, self._places]).astype(self.observation_space.dtype)
