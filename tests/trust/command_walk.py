"""Every verb of the command and every flag of each, read off the options dataclasses."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from entroreg.benchmarks.cli import parsing


class Flag(NamedTuple):
    """One option of a verb."""

    name: str
    """Of the field; the flag is --name with hyphens."""
    kinds: frozenset[Any]
    """What a value may be: int, float, bool, str, Path, or the words of a Literal."""
    many: bool
    """Whether it takes several values."""
    positional: bool
    """Whether it has no flag."""

    @property
    def words(self) -> tuple[str, ...]:
        """What stands before a value on the command line."""
        return () if self.positional else (f"--{self.name.replace('_', '-')}",)


def verbs() -> dict[str, list[Flag]]:
    """Return the flags of each verb, such as ``train sac``."""
    return {" ".join(words): list(_flags(options)) for words, options in _leaves(parsing._Command, ())}


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type]]:
    for alternative in get_args(command):
        options, name = get_args(alternative)[0], alternative.__metadata__[0].name
        below = [hint for hint in _hints(options).values() if _is_choice_of_verbs(hint)]
        if below:
            yield from _leaves(below[0], (*words, name))
        else:
            yield (*words, name), options


def _flags(options: type) -> Iterator[Flag]:
    for name, hint in _hints(options).items():
        if dataclasses.is_dataclass(hint):
            yield from _flags(hint)
            continue
        positional = bool(getattr(hint, "__metadata__", ()))
        kinds = list(_kinds(hint))
        many = any(get_origin(part) is tuple for part in [hint, *get_args(hint)])
        yield Flag(name, frozenset(kinds) - {types.NoneType}, many, positional)


def _kinds(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    elif hint in (int, float, bool, str, Path, types.NoneType):
        yield hint
    else:
        for part in get_args(hint):
            if isinstance(part, type) or get_args(part):
                yield from _kinds(part)


def _hints(options: type) -> dict[str, Any]:
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(options)}


def _is_choice_of_verbs(hint: Any) -> bool:
    parts = get_args(hint)
    return (
        bool(parts)
        and all(dataclasses.is_dataclass(get_args(part)[0]) for part in parts if get_args(part))
        and all(hasattr(part, "__metadata__") for part in parts)
    )
