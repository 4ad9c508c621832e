"""The tree that an environment is saved as: what its nodes must hold, since they may come from any file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.envs.saving.errors import malformed

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
DEEPEST = 64  # objects within objects, so that neither this walk nor JSON's exhausts Python's stack


def part(node: dict[str, Any], name: str, kind: type, path: str) -> Any:
    """Return a part of a node.

    Args:
        node: a dictionary.
        name: of the part.
        kind: that it must have.
        path: for messages.

    Raises:
        ValueError: it is missing, or of another kind.
    """
    if type(node.get(name)) is not kind:
        got = type(node[name]).__name__ if name in node else "nothing"
        raise malformed(path, f"a node with {name!r} ({kind.__name__})", got)
    return node[name]


def whole_numbers(node: dict[str, Any], name: str, path: str, low: int | None = 0) -> list[int]:
    """Return a list of integers that are at least ``low``."""
    numbers = part(node, name, list, path)
    if not all(type(number) is int and (low is None or number >= low) for number in numbers):
        raise malformed(path, f"a node whose {name!r} are integers", numbers)
    return list(numbers)


def array_part(node: dict[str, Any], name: str, path: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Return an array of numbers, of a shape if that is known."""
    array: NDArray[Any] = part(node, name, np.ndarray, path)
    if array.dtype.kind not in "biuf" or (shape is not None and array.shape != shape):
        expected = "numbers" if shape is None else f"numbers of shape {shape}"
        raise malformed(path, f"a node whose {name!r} are {expected}", f"{array.dtype} of shape {array.shape}")
    return array


def require_alike(value: Any, like: Any, path: str) -> None:
    """Refuse plain data of another form: other keys, shapes or kinds, or numbers that are not finite."""
    same = type(value) is type(like)
    if same and isinstance(like, dict):
        same = value.keys() == like.keys()
    if same and isinstance(like, np.ndarray):
        same = value.dtype == like.dtype and value.shape == like.shape and bool(np.isfinite(value).all())
    if same and isinstance(like, float):
        same = math.isfinite(value)
    if not same:
        raise malformed(path, "of the form that it has now", f"another {type(value).__name__}")
    if isinstance(like, dict):
        for name, item in like.items():
            require_alike(value[name], item, f"{path}[{name!r}]")
