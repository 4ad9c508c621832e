"""What in a pickle is not loaded, in words for the error that lists it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from entroreg.agents.safe_zip.pickles import Made, Name, Node, Pairs, Persistent
from entroreg.agents.safe_zip.spaces import RANDOM_STATES
from entroreg.agents.safe_zip.values import Key, key_of

_MOST = 20  # names of one value
_LONGEST = 200
# cloudpickle's words for code that is in the file itself: a class, and a function.
_CODE = "cloudpickle."
_CLASS_MAKERS = ("_make_skeleton_class", "_make_skeleton_enum")


def refused_in(root: Node, allowed: Container[Key]) -> list[str]:
    """Return the names in a pickle that are not allowed, each once, in the order of the pickle.

    Args:
        root: of the pickle.
        allowed: keys of names.
    """
    names: dict[str, None] = {}
    seen: set[int] = set()
    waiting = [root]
    while waiting and len(names) < _MOST:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Name):
            if key_of(node) not in allowed:
                names[_name_of(node)] = None
        elif described := _code(node):
            names[described] = None
        else:
            waiting += reversed(_inside(node))
    return list(names)


def _inside(node: Node) -> list[Node]:
    if isinstance(node, list | tuple):
        return list(node)
    if isinstance(node, Persistent):
        return [node.key]
    if isinstance(node, Pairs):
        return _of_pairs(node.pairs)
    if isinstance(node, Made):
        return [node.function, node.arguments, node.keywords, node.state, *node.items, *_of_pairs(node.pairs)]
    return []


def _of_pairs(pairs: Sequence[tuple[Any, Any]]) -> list[Node]:
    read = [pair for pair in pairs if not (isinstance(pair[0], str) and pair[0] in RANDOM_STATES)]
    return [part for pair in read for part in pair]


def _code(node: Node) -> str | None:
    """Return words for a class or function whose code is in the pickle."""
    function = node.function if isinstance(node, Made) else None
    if not isinstance(function, Name) or not function.module.startswith(_CODE):
        return None
    if function.name in _CLASS_MAKERS:
        arguments = node.arguments if isinstance(node.arguments, tuple) else ()
        texts = [part for part in arguments if isinstance(part, str)]
        return f"a class in the file{f', {texts[0][:_LONGEST]!r}' if texts else ''}"
    return "a function in the file"


def _name_of(name: Name) -> str:
    full = f"{name.module}.{name.name}"[:_LONGEST]
    return full if full.isprintable() else repr(full)
