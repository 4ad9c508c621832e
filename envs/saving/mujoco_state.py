"""MuJoCo's model and data as arrays of floats and booleans.

The integration state alone is not enough: tasks read derived arrays, so all of the data are taken. The model's are
taken too, because a task may change masses or friction; meshes and textures stay. Integers are left where they are:
they are addresses and indices, which the next step computes anew, and which a forged checkpoint could misuse.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from entroreg.envs.saving.classes import CannotSaveError

_CONSTANT = ("mesh", "tex", "hfield", "skin", "bvh", "oct", "mat_", "vis", "stat")
_ARENA = ("efc_", "iefc_", "iacc", "ifrc_", "efm_", "island_")  # contacts' size; the next step makes it anew
_PARTS = ("opt", "stat")  # of a model, with numbers of their own


def holds(value: Any) -> bool:
    """Whether a value is MuJoCo's model or data; no MuJoCo is imported to find out."""
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(value, mujoco.MjModel | mujoco.MjData)


def arrays_of(value: Any, path: str) -> dict[str, Any]:
    """Return the numbers of a model or of data by name, as copies.

    Raises:
        CannotSaveError: bodies may fall asleep, whose order is kept in indices.
    """
    if not hasattr(value, "opt"):
        return _numbers(value, _ARENA)
    if value.opt.enableflags & sys.modules["mujoco"].mjtEnableBit.mjENBL_SLEEP:
        raise CannotSaveError(f"{path} must not let bodies sleep: clear mjENBL_SLEEP in the model's options")
    found = _numbers(value, _CONSTANT)
    for part in _PARTS:
        found |= {f"{part}.{name}": item for name, item in _numbers(getattr(value, part), ()).items()}
    return found


def load_arrays(value: Any, arrays: dict[str, Any], path: str) -> None:
    """Put numbers back into a model or into data.

    Args:
        value: of the same task.
        arrays: from ``arrays_of``.
        path: for messages.

    Raises:
        ValueError: other names or shapes, so the model is another one.
    """
    live = arrays_of(value, path)
    if live.keys() != arrays.keys():
        raise ValueError(
            f"{path} must have {len(arrays)} arrays, got {len(live)}: use the MuJoCo that it was saved with"
        )
    for name, saved in arrays.items():
        expected, got = np.shape(live[name]), np.shape(saved)
        if expected != got:
            raise ValueError(f"{path}.{name} must have shape {expected}, got {got}: the model is another one")
    for name, saved in arrays.items():
        part, _, member = name.rpartition(".")
        owner = getattr(value, part) if part else value
        if isinstance(saved, np.ndarray):
            getattr(owner, member)[...] = saved
        else:
            setattr(owner, member, saved)


def _numbers(owner: Any, left_out: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dir(owner):
        if name.startswith(("_", *left_out)):
            continue
        item = getattr(owner, name)
        if isinstance(item, np.ndarray) and item.dtype.kind in "bf":
            found[name] = item.copy()
        elif isinstance(item, bool | float):
            found[name] = item
    return found
