"""Nested state dicts as a flat dict of tensors beside plain JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_TENSOR, _ITEMS, _TUPLE = _RESERVED = "__tensor__", "__items__", "__tuple__"


def split_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of a nested state by path, and the rest as JSON data that refers to them.

    Args:
        state: nested dicts, lists and tuples of tensors, numbers, strings, booleans and None; keys of dicts are
            strings or integers, as in an optimiser's state dict.

    Returns:
        The tensors by path, and JSON data.

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
        ValueError: a tensor that the data names is missing.

    Example:
        >>> join_state({}, {"b": {"__tuple__": [1, None]}})
        {'b': (1, None)}
    """
    if isinstance(data, list):
        return [join_state(tensors, item) for item in data]
    if not isinstance(data, dict):
        return data
    if _TENSOR in data:
        if data[_TENSOR] not in tensors:
            raise ValueError(f"tensor {data[_TENSOR]!r} is missing from the stored state")
        return tensors[data[_TENSOR]]
    if _TUPLE in data:
        return tuple(join_state(tensors, item) for item in data[_TUPLE])
    if _ITEMS in data:
        return {key: join_state(tensors, value) for key, value in data[_ITEMS]}
    return {key: join_state(tensors, value) for key, value in data.items()}


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        while path in tensors:  # {"a/b": ..} and {"a": {"b": ..}}, or the keys 1 and "1", would share a path
            path += "_"
        tensors[path] = value.detach()
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        items = [(key, _split(item, _child(path, key), tensors)) for key, item in value.items()]
        # JSON would turn the integer keys of an optimiser's state into strings, and a reserved word has a meaning.
        plain = all(isinstance(key, str) and key not in _RESERVED for key, _ in items)
        return dict(items) if plain else {_ITEMS: [[*item] for item in items]}
    if isinstance(value, list | tuple):
        parts = [_split(item, _child(path, index), tensors) for index, item in enumerate(value)]
        return {_TUPLE: parts} if isinstance(value, tuple) else parts
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state at {path!r} must be a tensor or plain data, got {type(value).__name__}")


def _child(path: str, key: Any) -> str:
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise TypeError(f"keys of the state at {path!r} must be strings or integers, got {key!r}")
    return f"{path}/{key}" if path else str(key)
