"""The state of an environment: everything that its Python objects hold, MuJoCo's arrays and random generators.

An environment is walked from wrapper to wrapper through the attributes of its objects. What is known to be plain
data is saved; what cannot change an episode (constructors' arguments, renderers) is left; all else is refused by
name, since state that is not seen would be a trajectory that is silently another one.
"""

from __future__ import annotations

from typing import Any

from entroreg.envs.saving.load_walk import LoadWalk
from entroreg.envs.saving.save_walk import SaveWalk


def environment_state(env: Any) -> dict[str, Any]:
    """Return the state of an environment, or of a vector of environments in this process, as a tree of plain data.

    State in global variables, in class attributes and in the defaults of functions is not seen; ``why_not_exact``
    finds out by trying.

    Args:
        env: of Gymnasium or Stable-Baselines3, with all its wrappers, at any step of an episode; or a dict of such
            and of what shares objects with them.

    Returns:
        Dicts and lists of numbers, strings and arrays, for ``split_state``. Arrays are copies.

    Raises:
        CannotSaveError: it holds something whose state cannot be seen, named by its path.
    """
    return SaveWalk().node_of(env, _root(env))  # type: ignore[no-any-return]


def load_environment_state(env: Any, state: dict[str, Any]) -> None:
    """Put a saved state into an environment made and reset as the saved one was; it steps on exactly from there.

    MuJoCo's contacts are not put back: the next step computes them, as it would have anyway. The state may come
    from anyone: it can change no code, and no index of MuJoCo's. After an error the environment holds a part of it.

    Args:
        env: of the same kind; its objects stay, with other values.
        state: from ``environment_state``.

    Raises:
        ValueError: the environment is of another kind, named by the path where it differs, or the state is damaged.
    """
    walk = LoadWalk()
    walk.load(env, state, _root(env))
    walk.finish()


def _root(env: Any) -> str:
    return "" if isinstance(env, dict) else "env"
