"""MuJoCo's model and data as arrays of floats and booleans.

The integration state alone is not enough: tasks read derived arrays, so all of the data are taken. The model's are
taken too, because a task may change masses or friction. Integers are never written: they are addresses and indices,
which a forged checkpoint could misuse. The data's are computed anew by the next step; the model's must be the same.
"""

from __future__ import annotations

import functools
import sys
import zlib
from typing import Any, TypeAlias

import numpy as np

from entroreg.envs.saving import arrays
from entroreg.envs.saving.errors import malformed, of_another_kind, unseen
from entroreg.envs.saving.nodes import array_part, part, whole_numbers

_FIXED = ("mesh", "oct_", "bvh_", "wrap_prm")  # of a model: compiled, some hold indices; compared like integers
_PICTURE = ("tex_", "skin", "mat_", "plugin_attr")  # of a model: no physics
_ARENA = ("efc_", "iefc_", "iacc", "ifrc_", "efm_", "island_")  # contacts' size; the next step makes it anew
# State in integers or in C, or with a place in it that is counted to.
_IN_DATA, _IN_MODEL = ("plugin_data", "history", "flexvert_conage"), ("nplugin", "nhistory")
_Numbers: TypeAlias = dict[str, dict[str, Any]]
"""dtype -> name -> live array, or number."""


def holds(value: Any) -> bool:
    """Whether a value is MuJoCo's model or data; no MuJoCo is imported to find out."""
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(value, mujoco.MjModel | mujoco.MjData)


def mujoco_node(value: Any, path: str) -> dict[str, Any]:
    """Return the numbers of a model or of data, as copies: for each dtype one array, and what lies in it.

    Raises:
        CannotSaveError: there is state besides, such as that of bodies that may fall asleep.
    """
    _require_no_more(value, path)
    numbers = _numbers(value)
    values = {dtype: np.concatenate([np.ravel(one) for one in numbers[dtype].values()]) for dtype in numbers}
    if not all(np.isfinite(flat).all() for flat in values.values()):
        raise unseen(path, "finite", "infinity or NaN")
    node = {"layout": _layout(numbers), "values": values}
    return node | {"integers": _checksum(value)} if _is_model(value) else node


def put_node(value: Any, node: dict[str, Any], path: str) -> None:
    """Put numbers back into a model or into data.

    Args:
        value: of the same task.
        node: from ``mujoco_node``.
        path: for messages.

    Raises:
        ValueError: the model is another one, or the numbers are damaged.
    """
    _require_no_more(value, path)
    numbers, values = _numbers(value), part(node, "values", dict, path)
    _require_same_layout(_layout(numbers), part(node, "layout", dict, path), path)
    if _is_model(value) and _checksum(value) != part(node, "integers", int, path):
        raise of_another_kind(path, "a model with the same integers and meshes", value)
    for dtype, members in numbers.items():
        flat = array_part(values, dtype, path, (sum(np.size(one) for one in members.values()),))
        if flat.dtype != np.dtype(dtype) or not np.isfinite(flat).all():
            raise malformed(path, f"finite numbers of {dtype}", f"others of {flat.dtype}")
    for dtype, members in numbers.items():
        _write(value, members, values[dtype])


def window(array: Any, owners: list[tuple[int, Any]]) -> dict[str, Any] | None:
    """Return which part of which model or data an array looks at, or None where it is of none.

    Args:
        array: whose memory NumPy did not allocate.
        owners: models and data with their numbers.
    """
    low, high = arrays.extent(array)
    for number, owner in owners:
        for name in _names(owner):
            member = getattr(owner, name)
            if isinstance(member, np.ndarray) and member.size:
                begin, end = arrays.extent(member)
                if begin <= low and high <= end:
                    place = {"offset": low - begin, "shape": [*array.shape], "strides": [*array.strides]}
                    return {"of": number, "member": name, **place}
    return None


def _require_no_more(value: Any, path: str) -> None:
    """Refuse state besides floats and booleans that mean what they say."""
    if not _is_model(value):
        more = [name for name in _IN_DATA if np.size(getattr(value, name, ()))]
    elif value.opt.enableflags & sys.modules["mujoco"].mjtEnableBit.mjENBL_SLEEP:
        more = ["mjENBL_SLEEP"]
    else:
        more = [name for name in _IN_MODEL if getattr(value, name, 0)]
    if more:
        raise unseen(path, "without sleeping bodies, delays, plugins and flexes", more[0])


def _is_model(value: Any) -> bool:
    return hasattr(value, "opt")


def _names(owner: Any) -> tuple[str, ...]:
    cls: Any = type(owner)
    return _names_of_class(cls)


@functools.cache
def _names_of_class(cls: type) -> tuple[str, ...]:
    return tuple(name for name in dir(cls) if not name.startswith("_"))


def _numbers(value: Any) -> _Numbers:
    """Return the floats and booleans of a model or of data, in the order of their names."""
    found: _Numbers = {}
    left_out = (*_FIXED, *_PICTURE) if _is_model(value) else _ARENA
    for prefix, owner in _parts(value):
        for name in _names(owner):
            if name.startswith(left_out):
                continue
            number = getattr(owner, name)
            if isinstance(number, bool | float):
                dtype = "|b1" if isinstance(number, bool) else "<f8"
                found.setdefault(dtype, {})[prefix + name] = number
            elif isinstance(number, np.ndarray) and number.size and number.dtype.kind in "bf":
                found.setdefault(number.dtype.str, {})[prefix + name] = number
    return {dtype: dict(sorted(found[dtype].items())) for dtype in found}


def _parts(value: Any) -> list[tuple[str, Any]]:
    return [("", value), ("opt.", value.opt), ("stat.", value.stat)] if _is_model(value) else [("", value)]


def _write(value: Any, members: dict[str, Any], flat: Any) -> None:
    begin = 0
    for name, number in members.items():
        end = begin + np.size(number)
        if isinstance(number, np.ndarray):
            number[...] = flat[begin:end].reshape(number.shape)
        else:
            prefix, _, member = name.rpartition(".")
            setattr(getattr(value, prefix) if prefix else value, member, flat[begin].item())
        begin = end


def _layout(numbers: _Numbers) -> dict[str, dict[str, list[int]]]:
    return {dtype: {name: [*np.shape(one)] for name, one in members.items()} for dtype, members in numbers.items()}


def _shapes(layout: dict[str, Any], path: str) -> dict[Any, list[Any]]:
    """Return the dtype and shape of each array."""
    found: dict[Any, list[Any]] = {}
    for dtype in layout:
        members = part(layout, dtype, dict, path)
        found |= {name: [dtype, *whole_numbers(members, name, path)] for name in members}
    return found


def _require_same_layout(live: dict[str, Any], saved: dict[str, Any], path: str) -> None:
    got, expected = _shapes(live, path), _shapes(saved, path)
    for name in sorted(got.keys() | expected.keys(), key=str):
        if got.get(name) != expected.get(name):
            raise ValueError(
                f"{path}.{name} must have dtype and shape {expected.get(name)}, as when it was saved, got "
                f"{got.get(name)}: use the task and the MuJoCo that it was saved with"
            )


def _checksum(model: Any) -> int:
    """Return a number that tells a model's integers and meshes from others, all that is not written."""
    found = 0
    for prefix, owner in _parts(model):
        for name in _names(owner):
            member = None if name.startswith(_PICTURE) else getattr(owner, name)
            if isinstance(member, int) and not isinstance(member, bool):
                found = zlib.crc32(f"{prefix}{name} {member}".encode(), found)
            elif isinstance(member, np.ndarray) and (member.dtype.kind in "iu" or name.startswith(_FIXED)):
                found = zlib.crc32(member.tobytes(), found)
    return found
