"""Tasks with other physics, noise or delay than they came with: chosen, or drawn anew for each episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from entroreg import _checks
from entroreg.envs.perturbations.model_state import ModelState
from entroreg.envs.perturbations.parameters import PHYSICS, read_parameter, require_parameter, set_parameter
from entroreg.envs.perturbations.signals import SIGNALS, Signals
from entroreg.envs.tasks import Env, mujoco_of, unknown
from entroreg.envs.uncertainty_sets import Range, UncertaintySet

_STREAM = 0x6E6F697365  # sets the noise of a seed apart from the task's own draws


class Perturbed(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """A MuJoCo task with perturbed physics and signals.

    Args:
        env: a task on MuJoCo with vectors as observations and actions.
        values: parameter -> absolute value: those of ``entroreg.envs.perturbations.parameters``, and
            ``observation_noise`` (standard deviation in the observation's units), ``action_noise`` (in units of
            half the action range) and ``delay`` (control steps until an action arrives).
        physics: "correct", or "published", which sets the arrays that the authors of the published sets set.

    Raises:
        TypeError: the task is not on MuJoCo, or a value is no number.
        ValueError: unknown name (the nearest are named), or a value that no physics has.

    Example:
        >>> env = Perturbed(gymnasium.make("Hopper-v5"), {"mass:torso": 5.0, "observation_noise": 0.01})
        >>> _ = env.reset(seed=0)
        >>> float(env.unwrapped.model.body_mass[1])
        5.0
    """

    def __init__(self, env: Env, values: Mapping[str, float] | None = None, physics: str = "correct") -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, values=values, physics=physics)
        gymnasium.Wrapper.__init__(self, env)
        _checks.require_choice("physics", physics, PHYSICS)
        model, _ = mujoco_of(env)
        if not isinstance(env.action_space, spaces.Box) or not isinstance(env.observation_space, spaces.Box):
            raise TypeError(f"expected vectors as observations and actions, got {env}")
        self._physics = physics
        self._state = ModelState(model)
        self._model = model
        self._signals = Signals(env.action_space.low, env.action_space.high)
        self._rng = np.random.default_rng()
        self.values: dict[str, float] = {}
        self.perturb(values or {})

    @property
    def nominal(self) -> dict[str, float | None]:
        """The task's own values of the parameters that are perturbed now; None where several differ."""
        return {name: self.nominal_value(name) for name in self.values}

    def nominal_value(self, name: str) -> float | None:
        """Return the task's own value of a parameter, or None where its name stands for several that differ."""
        return 0.0 if name in SIGNALS else read_parameter(self._state.kept, name)

    def perturb(self, values: Mapping[str, float]) -> None:
        """Replace the perturbation by another, from the next step on; what is not named is the task's own again.

        Args:
            values: parameter -> absolute value.

        Raises:
            TypeError: a value that is no number.
            ValueError: unknown name, or a value that no physics has; then the task is unperturbed.
        """
        self.undo()
        try:
            with self._state.changing():
                self._set_physics({name: value for name, value in values.items() if name not in SIGNALS})
            self._signals.set({name: value for name, value in values.items() if name in SIGNALS})
        except Exception:
            self.undo()
            raise
        self.values = dict(values)

    def _set_physics(self, values: Mapping[str, float]) -> None:
        # All geoms come before single ones, which would otherwise be overwritten.
        for name, value in sorted(values.items(), key=lambda item: ":" in item[0]):
            _require_known(self._model, name)
            set_parameter(self._model, name, value, self._physics)
        for name, value in values.items():
            if name.startswith("friction:"):  # may have been lowered with another one, which it touches
                set_parameter(self._model, name, value, "published")

    def undo(self) -> None:
        """Make the task what it was, to the last bit."""
        self._state.restore()
        self._signals.set({})
        self.values = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; a seed also begins the stream of the noise."""
        if seed is not None:
            self._rng = np.random.default_rng([_STREAM, seed])
        self._signals.reset()
        observation, info = self.env.reset(seed=seed, options=options)
        return self._signals.observation(observation, self._rng), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a control step."""
        observation, *rest = self.env.step(self._signals.action(action, self._rng))
        return (self._signals.observation(observation, self._rng), *rest)  # type: ignore[return-value]


class Randomised(Perturbed):
    """A MuJoCo task whose parameters are drawn uniformly from an uncertainty set for each episode.

    Args:
        env: as for ``Perturbed``.
        uncertainty_set: ranges of the parameters, see ``entroreg.envs.uncertainty_sets``.
        physics: as for ``Perturbed``.

    Raises:
        TypeError: as for ``Perturbed``.
        ValueError: as for ``Perturbed``.

    Example:
        >>> from entroreg.envs import find_set
        >>> env = Randomised(gymnasium.make("Hopper-v5"), find_set("Hopper-v5", "rrls-2"))
        >>> _ = env.reset(seed=0)
        >>> sorted(env.values)
        ['friction:floor', 'mass:torso']
    """

    def __init__(self, env: Env, uncertainty_set: UncertaintySet, physics: str = "correct") -> None:
        super().__init__(env, {one.name: one.high for one in uncertainty_set.ranges}, physics)
        self.perturb({one.name: one.low for one in uncertainty_set.ranges})  # both ends are fit
        gymnasium.utils.RecordConstructorArgs.__init__(self, uncertainty_set=uncertainty_set, physics=physics)
        self._set = uncertainty_set

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with other parameters; a seed decides over these too."""
        if seed is not None:
            self._rng = np.random.default_rng([_STREAM, seed])
        self.perturb({one.name: self._drawn(one) for one in self._set.ranges})
        self._signals.reset()
        observation, info = self.env.reset(seed=seed, options=options)
        return self._signals.observation(observation, self._rng), info

    def _drawn(self, one: Range) -> float:
        if one.name == "delay":  # whole control steps
            return float(self._rng.integers(int(one.low), int(one.high), endpoint=True))
        return float(self._rng.uniform(one.low, one.high))


def _require_known(model: Any, name: str) -> None:
    try:
        require_parameter(model, name)
    except ValueError as error:
        if ":" not in name and "parameter" in str(error):
            known = ("mass", "friction", "damping", "gain", "gravity", *SIGNALS)
            raise unknown("parameter", name, known) from error
        raise
