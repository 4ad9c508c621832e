"""Nested state dicts as a flat dict of tensors beside plain JSON, and back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TENSOR, _ITEMS, _TUPLE = "__tensor__", "__items__", "__tuple__"
_ARRAY, _FLOAT, _BYTES, _DEQUE = "__array__", "__float__", "__bytes__", "__deque__"
_RESERVED = (_TENSOR, _ITEMS, _TUPLE, _ARRAY, _FLOAT, _BYTES, _DEQUE)
_ARRAY_KINDS = "biuf"


def split_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of a nested state by path, and the rest as JSON data that refers to them.

    Args:
        state: nested dicts, lists, tuples and deques of tensors, NumPy arrays and scalars, numbers, strings, bytes,
            booleans and None; keys of dicts are strings or integers, as in an optimiser's state dict.

    Returns:
        The tensors by path, arrays among them as bytes, and JSON data with finite numbers only.

    Raises:
        TypeError: something else inside, named by its path.

    Example:
        >>> split_state({"a": torch.zeros(2), "b": (1, None)})
        ({'a': tensor([0., 0.])}, {'a': {'__tensor__': 'a'}, 'b': {'__tuple__': [1, None]}})
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _split(state, "", tensors)


def join_state(tensors: Mapping[str, Tensor], data: Any) -> Any:
    """Return the nested state that ``split_state`` took apart.

    Args:
        tensors: tensors by path.
        data: JSON data that refers to them.

    Returns:
        The nested state.

    Raises:
        ValueError: a tensor that the data names is missing, or an array's bytes do not fit its shape.

    Example:
        >>> join_state({}, {"b": {"__tuple__": [1, None]}})
        {'b': (1, None)}
    """
    if isinstance(data, list):
        return [join_state(tensors, item) for item in data]
    if not isinstance(data, dict):
        return data
    if _TENSOR in data:
        return _find(tensors, data[_TENSOR])
    if _TUPLE in data:
        return tuple(join_state(tensors, item) for item in data[_TUPLE])
    if _ITEMS in data:
        return {key: join_state(tensors, value) for key, value in data[_ITEMS]}
    if _ARRAY in data:
        return _joined_array(_find(tensors, data[_ARRAY]), data)
    if _FLOAT in data:
        return float(data[_FLOAT])
    if _BYTES in data:
        return _find(tensors, data[_BYTES]).cpu().numpy().tobytes()
    if _DEQUE in data:
        return deque((join_state(tensors, item) for item in data[_DEQUE]), maxlen=data["maxlen"])
    return {key: join_state(tensors, value) for key, value in data.items()}


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return {_TENSOR: _kept(value.detach(), path, tensors)}
    if isinstance(value, np.ndarray | np.generic):
        return _split_array(value, path, tensors)
    if isinstance(value, bytes):
        return {_BYTES: _kept(_as_bytes(np.frombuffer(value, dtype=np.uint8)), path, tensors)}
    if isinstance(value, Mapping):
        items = [(key, _split(item, _child(path, key), tensors)) for key, item in value.items()]
        # JSON would turn the integer keys of an optimiser's state into strings, and a reserved word has a meaning.
        plain = all(isinstance(key, str) and key not in _RESERVED for key, _ in items)
        return dict(items) if plain else {_ITEMS: [[*item] for item in items]}
    if isinstance(value, list | tuple | deque):
        parts = [_split(item, _child(path, index), tensors) for index, item in enumerate(value)]
        if isinstance(value, deque):
            return {_DEQUE: parts, "maxlen": value.maxlen}
        return {_TUPLE: parts} if isinstance(value, tuple) else parts
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such number
        return {_FLOAT: repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state at {path!r} must be a tensor or plain data, got {type(value).__name__}")


def _split_array(value: np.ndarray | np.generic, path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    array = np.asarray(value)
    if array.dtype.kind not in _ARRAY_KINDS:
        raise TypeError(f"state at {path!r} must be an array of numbers, got one of {array.dtype}")
    # Bytes, because torch lacks some of NumPy's dtypes; a scalar stays one.
    place = _kept(_as_bytes(array), path, tensors)
    return {
        _ARRAY: place,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "scalar": isinstance(value, np.generic),
    }


def _as_bytes(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.frombuffer(array.tobytes(), dtype=np.uint8).copy())


def _joined_array(raw: Tensor, data: dict[str, Any]) -> Any:
    dtype, shape = np.dtype(data["dtype"]), tuple(data["shape"])
    found = raw.cpu().numpy().tobytes()
    if dtype.kind not in _ARRAY_KINDS or len(found) != dtype.itemsize * math.prod(shape):
        raise ValueError(f"the stored array {data[_ARRAY]!r} has {len(found)} bytes, expected {shape} of {dtype}")
    array = np.frombuffer(found, dtype=dtype).reshape(shape).copy()
    return array[()] if data["scalar"] else array


def _kept(tensor: Tensor, path: str, tensors: dict[str, Tensor]) -> str:
    while path in tensors:  # {"a/b": ..} and {"a": {"b": ..}}, or the keys 1 and "1", would share a path
        path += "_"
    tensors[path] = tensor
    return path


def _find(tensors: Mapping[str, Tensor], path: str) -> Tensor:
    if path not in tensors:
        raise ValueError(f"tensor {path!r} is missing from the stored state")
    return tensors[path]


def _child(path: str, key: Any) -> str:
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise TypeError(f"keys of the state at {path!r} must be strings or integers, got {key!r}")
    return f"{path}/{key}" if path else str(key)
