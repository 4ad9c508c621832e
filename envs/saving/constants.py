"""Functions, classes and names: they stay as they are, but for what a function has closed over or is bound to."""

from __future__ import annotations

import functools
import logging
import re
import types
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from entroreg.envs.saving.classes import name_of, qualified
from entroreg.envs.saving.errors import malformed, of_another_kind

_CYTHON = type(np.random.Generator.normal)
_FUNCTIONS = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, _CYTHON)
_NAMES = (types.ModuleType, types.GenericAlias, types.UnionType, np.dtype, np.ufunc, torch.dtype, torch.device)
_OTHERS = (functools.partial, PurePath, re.Pattern, logging.Logger, EnvSpec, WrapperSpec)
_SINGLE = (type(Ellipsis), type(NotImplemented))


def is_constant(value: Any) -> bool:
    """Whether a value is a function, a class or a name, which can be exchanged but cannot change itself."""
    return isinstance(value, (*_FUNCTIONS, *_NAMES, *_OTHERS, *_SINGLE))


def text_of(value: Any) -> str:
    """Return what tells a constant from another one that might stand in its place."""
    if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":  # a name that all have
        numbers = [constant for constant in value.__code__.co_consts if isinstance(constant, int | float | str)]
        return f"{qualified(value)} of {[*value.__code__.co_names, *numbers]}"
    if isinstance(value, _FUNCTIONS):
        return qualified(value)
    if isinstance(value, (*_NAMES, *_SINGLE, PurePath, re.Pattern)):
        return str(value)
    return name_of(value)


def parts_of(value: Any) -> list[tuple[str, Any]]:
    """Return what a function carries with it, by name: what it is bound to, what it has closed over."""
    if isinstance(value, functools.partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    if isinstance(value, types.MethodType):
        return [("__self__", value.__self__), ("__func__", value.__func__)]
    if isinstance(value, types.BuiltinFunctionType) and not isinstance(value.__self__, types.ModuleType | None):
        return [("__self__", value.__self__)]
    if isinstance(value, types.FunctionType):
        return [(f"__closure__[{index}]", cell.cell_contents) for index, cell in _filled(value)]
    return []


def with_parts(live: Any, parts: list[Any], path: str) -> Any:
    """Return a live constant that carries other parts: itself, or a new one for those that cannot change.

    Raises:
        ValueError: a method of an object of another class, or arguments that are none.
    """
    if isinstance(live, types.FunctionType):
        for (_, cell), content in zip(_filled(live), parts, strict=True):
            cell.cell_contents = content
        return live
    if isinstance(live, functools.partial):
        function, args, keywords = parts
        if type(args) is not tuple or type(keywords) is not dict or {type(key) for key in keywords} - {str}:
            raise malformed(path, "a partial function", f"{type(args).__name__} and {type(keywords).__name__}")
        return functools.partial(function, *args, **keywords)
    if parts[0] is live.__self__:
        return live
    if type(parts[0]) is not type(live.__self__):
        raise of_another_kind(path, f"a method of {name_of(parts[0])}", live.__self__)
    if isinstance(live, types.MethodType):
        return types.MethodType(live.__func__, parts[0])
    return getattr(parts[0], live.__name__)


def _filled(function: types.FunctionType) -> list[tuple[int, types.CellType]]:
    """Return the variables that a function has closed over, but for those without a value yet."""
    return [(index, cell) for index, cell in enumerate(function.__closure__ or ()) if _has_content(cell)]


def _has_content(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
