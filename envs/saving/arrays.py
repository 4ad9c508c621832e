"""Arrays as plain data, with what else a computation could depend on: memory order, and whose memory it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.envs.saving.errors import malformed, unseen
from entroreg.envs.saving.nodes import array_part, part, whole_numbers

_NUMBERS = "biuf"  # kinds of dtype that go into a checkpoint as they are
_BYTES = "SUcMm"  # those that go as bytes
_WIDEST = 8  # bytes of a number that JSON holds exactly
LONG = 16  # items from which on a list of numbers is an array, such as a Monitor's of all returns
_OF_PYTHON: dict[type, type] = {bool: np.bool_, int: np.int64, float: np.float64}


def root_of(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array whose memory an array looks at; itself, where it has its own."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def is_window(value: Any) -> bool:
    """Whether a value is an array that looks at memory of a library such as MuJoCo."""
    return isinstance(value, np.ndarray) and type(root_of(value).base).__name__ == "PyCapsule"


def is_view(array: NDArray[Any]) -> bool:
    """Whether an array is a part of another one, from which it can be taken again."""
    root = root_of(array)
    same = type(root) is np.ndarray and root.dtype == array.dtype and root.dtype.kind in _NUMBERS + _BYTES
    return same and root is not array and _is_contiguous(root) and 0 < array.size <= root.size


def view_place(array: NDArray[Any]) -> dict[str, Any]:
    """Return where in its root a view is."""
    offset = _address(array) - _address(root_of(array))
    return {"offset": offset, "shape": [*array.shape], "strides": [*array.strides], **_readonly(array)}


def view_of(root: NDArray[Any], node: dict[str, Any], path: str) -> NDArray[Any]:
    """Return the view of a root that ``view_place`` described.

    Raises:
        ValueError: a place outside the root.
    """
    shape, strides = whole_numbers(node, "shape", path), whole_numbers(node, "strides", path, low=None)
    flat = root.transpose(_axes(root)).reshape(-1)
    try:
        if root.dtype.kind not in _NUMBERS + _BYTES or not _is_contiguous(root) or math.prod(shape) > root.size:
            raise ValueError("the root is no such array")
        # Refuses what is outside, which as_strided would not.
        view = np.ndarray(shape, root.dtype, flat, part(node, "offset", int, path), strides)
    except (ValueError, TypeError, OverflowError) as error:
        raise malformed(path, f"a part of an array of shape {root.shape}", f"shape {shape}") from error
    return _made_readonly(view, node)


def array_node(array: NDArray[Any], path: str) -> dict[str, Any]:
    """Return an array's own numbers or texts, as a copy.

    Raises:
        CannotSaveError: it holds something else.
    """
    if array.dtype.kind not in _NUMBERS + _BYTES or array.dtype.itemsize == 0:
        raise unseen(path, "an array of numbers or texts", f"one of {array.dtype}")
    axes = _axes(array)
    stored = array.transpose(axes).copy(order="C")
    node: dict[str, Any] = {"value": stored, **_readonly(array)}
    if stored.dtype.kind in _BYTES:
        node |= {"dtype": stored.dtype.str, "shape": [*stored.shape]}
        node["value"] = np.frombuffer(stored.tobytes(), np.uint8)
    return node if axes == sorted(axes) else node | {"axes": axes}


def array_of(node: dict[str, Any], path: str) -> NDArray[Any]:
    """Return a new array that is as the saved one was, down to its order in memory.

    Raises:
        ValueError: the node is of no array.
    """
    value = array_part(node, "value", path)
    if "dtype" in node:
        value = _from_bytes(value, node, path)
    axes = whole_numbers(node, "axes", path) if "axes" in node else [*range(value.ndim)]
    if sorted(axes) != [*range(value.ndim)]:
        raise malformed(path, f"an array with {value.ndim} axes", axes)
    inverse = sorted(range(value.ndim), key=axes.__getitem__)
    return _made_readonly(value.transpose(inverse).copy(order="K"), node)


def scalar_node(scalar: np.generic, path: str) -> dict[str, Any]:
    """Return a NumPy scalar as a number with its dtype, or as bytes."""
    if scalar.dtype.kind in _NUMBERS and scalar.dtype.itemsize <= _WIDEST:
        return {"dtype": scalar.dtype.str, "item": scalar.item()}
    return array_node(np.array(scalar), path)


def scalar_of(node: dict[str, Any], path: str) -> np.generic:
    """Return the NumPy scalar of a node.

    Raises:
        ValueError: the node is of no scalar.
    """
    array: Any = array_of(node, path) if "value" in node else _number(node, path)
    if array.ndim:
        raise malformed(path, "a single number or text", f"one of shape {array.shape}")
    scalar: np.generic = array[()]
    return scalar


def numbers_node(items: Any) -> dict[str, Any] | None:
    """Return many numbers of one type as an array; None where they are few, of several types or too large."""
    kinds = {type(item) for item in items} if len(items) > LONG else set()
    if len(kinds) != 1:
        return None
    (kind,) = kinds
    if kind not in _OF_PYTHON and not (issubclass(kind, np.generic) and np.dtype(kind).kind in _NUMBERS):
        return None
    try:
        return {"value": np.array(items, dtype=_OF_PYTHON.get(kind, kind)), "of_numpy": kind not in _OF_PYTHON}
    except OverflowError:
        return None


def numbers_of(node: dict[str, Any], path: str) -> list[Any]:
    """Return the numbers of ``numbers_node`` as a list.

    Raises:
        ValueError: the node is of no numbers.
    """
    array = array_part(node, "value", path)
    if array.ndim != 1:
        raise malformed(path, "a row of numbers", f"shape {array.shape}")
    return [*array] if part(node, "of_numpy", bool, path) else array.tolist()


def extent(array: NDArray[Any]) -> tuple[int, int]:
    """Return the first address of an array's memory and the one behind it."""
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    low = _address(array) + sum(step for step in steps if step < 0)
    return low, _address(array) + sum(step for step in steps if step > 0) + array.itemsize


def _number(node: dict[str, Any], path: str) -> NDArray[Any]:
    try:
        dtype = np.dtype(part(node, "dtype", str, path))
        if dtype.kind not in _NUMBERS or type(node.get("item")) not in _OF_PYTHON:
            raise ValueError("no number")
        return np.array(node["item"], dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise malformed(path, "a number", repr(node)[:100]) from error


def _from_bytes(raw: NDArray[Any], node: dict[str, Any], path: str) -> NDArray[Any]:
    try:
        dtype = np.dtype(part(node, "dtype", str, path))
        if dtype.kind not in _BYTES:
            raise ValueError("no such numbers or texts")
        return np.frombuffer(raw.tobytes(), dtype).reshape(whole_numbers(node, "shape", path)).copy()
    except (TypeError, ValueError) as error:
        raise malformed(path, "an array of numbers or texts", repr(node["dtype"])[:100]) from error


def _axes(array: NDArray[Any]) -> list[int]:
    """Return the axes from the outermost in memory to the innermost: sums over them may round otherwise."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _is_contiguous(array: NDArray[Any]) -> bool:
    return bool(array.transpose(_axes(array)).flags.c_contiguous)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _readonly(array: NDArray[Any]) -> dict[str, bool]:
    return {} if array.flags.writeable else {"readonly": True}


def _made_readonly(array: NDArray[Any], node: dict[str, Any]) -> NDArray[Any]:
    if "readonly" in node:
        array.flags.writeable = False
    return array
