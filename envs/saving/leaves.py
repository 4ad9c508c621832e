"""Saved values without objects inside, made from their nodes."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Any

from entroreg.envs.saving import arrays
from entroreg.envs.saving.classes import name_of
from entroreg.envs.saving.errors import malformed, of_another_kind
from entroreg.envs.saving.live import require_data
from entroreg.envs.saving.nodes import part

_IN: dict[str, type] = {cls.__name__: cls for cls in (list, tuple, deque)}


def maxlen_of(node: dict[str, Any], path: str) -> int | None:
    """Return the length that a deque does not exceed."""
    maxlen: int | None = node.get("maxlen")
    if not (maxlen is None or (type(maxlen) is int and 0 <= maxlen < 2**31)):
        raise malformed(path, "a deque of a length", repr(maxlen)[:100])
    return maxlen


def require_hashable(items: list[Any], path: str) -> None:
    """Refuse what can be no key of a dict and no member of a set."""
    try:
        for item in items:
            hash(item)
    except TypeError as error:
        raise malformed(path, "items that can be hashed", str(error)) from error


def _array(live: Any, node: dict[str, Any], path: str) -> Any:
    require_data(live, path, "an array")
    return arrays.array_of(node, path)


def _scalar(live: Any, node: dict[str, Any], path: str) -> Any:
    require_data(live, path, "a number")
    return arrays.scalar_of(node, path)


def _numbers(live: Any, node: dict[str, Any], path: str) -> Any:
    require_data(live, path, "numbers")
    kind = _IN.get(part(node, "in", str, path))
    if kind is None:
        raise malformed(path, f"numbers in {', '.join(_IN)}", repr(node["in"])[:100])
    numbers = arrays.numbers_of(node, path)
    return deque(numbers, maxlen_of(node, path)) if kind is deque else kind(numbers)


def _enum(live: Any, node: dict[str, Any], path: str) -> Any:
    if not isinstance(live, enum.Enum) or name_of(live) != part(node, "type", str, path):
        raise of_another_kind(path, f"a member of {node.get('type')}", live)
    members = type(live).__members__
    if part(node, "name", str, path) not in members:
        raise malformed(path, f"a member of {name_of(live)}", repr(node["name"])[:100])
    return members[node["name"]]


LEAVES: dict[str, Callable[[Any, dict[str, Any], str], Any]] = {
    "array": _array,
    "scalar": _scalar,
    "numbers": _numbers,
    "enum": _enum,
}
"""By the kind of the node: from what stands there, the node and the path to the value."""
