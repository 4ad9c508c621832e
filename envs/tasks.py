"""MuJoCo tasks by the id that Gymnasium knows, those of dm_control included, and the MuJoCo beneath them."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import gymnasium
import mujoco
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation

Env: TypeAlias = gymnasium.Env[Any, Any]
Task: TypeAlias = str | Callable[[], Env]
DM = "dm_control/"


def make_task(task: Task) -> Env:
    """Return a task with vectors as observations.

    Args:
        task: an id, such as Hopper-v5 or dm_control/cartpole-swingup-v0, or a function that returns a new
            environment.

    Returns:
        The environment. The dictionaries of dm_control are flattened to one vector.

    Raises:
        ModuleNotFoundError: dm_control is not installed.
        gymnasium.error.Error: there is no such task.
        TypeError: observations that are no vector, or actions that are not continuous.
    """
    if isinstance(task, str):
        _know_dm_control(task)
        env = gymnasium.make(task)
    else:
        env = task()
    if isinstance(env.observation_space, spaces.Dict):
        env = FlattenObservation(env)
    for name, space in (("observations", env.observation_space), ("actions", env.action_space)):
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise TypeError(f"{name} of a task must be a vector of floats, got {space}")
    return env


def _know_dm_control(task: str) -> None:
    if task.startswith(DM):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its renderers, where there is no display
                import dm_control.suite  # noqa: F401
                import shimmy  # noqa: F401  (registers them)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: {task} needs pip install 'entroreg[dm]'") from error


def mujoco_of(env: Env) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Return model and data beneath a task, live.

    Args:
        env: made by Gymnasium from its own MuJoCo tasks, ours, or dm_control's.

    Raises:
        TypeError: there is no MuJoCo beneath it, or one that is compiled anew for each episode.
    """
    inner: Any = env.unwrapped
    of_dm = getattr(inner, "_env", None)
    if any(kind.__module__.startswith("dm_control.composer") for kind in type(of_dm).__mro__):
        raise TypeError(
            f"{env} is a composer task of dm_control, whose model is compiled anew for each episode: its physics "
            "cannot be changed from here; the tasks of dm_control's suite keep theirs"
        )
    physics = getattr(of_dm, "physics", None)
    model, data = (getattr(inner if physics is None else physics, name, None) for name in ("model", "data"))
    if physics is not None:
        model, data = model.ptr, data.ptr  # type: ignore[union-attr]
    if not isinstance(model, mujoco.MjModel) or not isinstance(data, mujoco.MjData):
        raise TypeError(f"expected an environment on MuJoCo, got {env}: its physics cannot be changed from here")
    return model, data


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for a name that does not exist, with the nearest ones that do."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    advice = f"did you mean {', '.join(map(repr, near))}?" if near else f"there is {', '.join(names)}"
    return ValueError(f"unknown {kind} {name!r}: {advice}")
