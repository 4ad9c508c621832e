"""Whether options that were read from JSON hold what their fields say."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
    bool: "true or false",
    NoneType: "null",
}


def require_types(options: object) -> None:
    """Refuse options with a field that is not of its type, also in the groups of which they consist.

    Args:
        options: a dataclass.

    Raises:
        TypeError: naming the field.
    """
    hints = get_type_hints(type(options))
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        value, hint = getattr(options, field.name), hints[field.name]
        if dataclasses.is_dataclass(hint):
            require_types(value)
        elif not _fits(value, hint):
            raise TypeError(f"{field.name} must be {_words(hint)}, got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, parts[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, Path):
        return isinstance(value, hint) and is_text(str(value))
    return isinstance(value, hint)


def is_text(value: str) -> bool:
    """Whether a name can be written in UTF-8 and given to the system."""
    return "\0" not in value and not any("\ud800" <= mark <= "\udfff" for mark in value)


def _words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_words, parts))
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    return f"a list, each {_words(parts[0])}" if origin is tuple else _WORDS[hint]
