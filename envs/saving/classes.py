"""Which objects show all of their state in Python, and which cannot change an episode at all."""

from __future__ import annotations

import enum
import functools
import re
import threading
import types
from pathlib import PurePath
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec

# Their objects stand for something outside: another process, a thread, a file.
_OUTSIDE = ("asyncio", "concurrent", "ctypes", "multiprocessing", "socket", "subprocess", "threading", "weakref")
_CONSTANT = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    types.GenericAlias,
    functools.partial,
    enum.Enum,
    np.dtype,
    np.ufunc,
    PurePath,
    re.Pattern,
    type(threading.Lock()),
    type(threading.RLock()),
    EnvSpec,
    WrapperSpec,
)
_C_MEMBERS = (types.WrapperDescriptorType, types.MethodDescriptorType, types.BuiltinFunctionType)
_KNOWN = frozenset({"typing", "abc", "_abc", "builtins"})  # of object, Generic, ABC, which hold nothing


class CannotSaveError(ValueError):
    """An environment holds something whose state cannot be seen."""


class WithinEpisodeError(CannotSaveError):
    """An environment that is saved between episodes is in the middle of one."""


def is_constant(value: Any) -> bool:
    """Whether a value cannot change while an episode goes on: a function, a class, a name."""
    return isinstance(value, _CONSTANT)


def is_python_object(value: Any) -> bool:
    """Whether all that an object holds is in its ``__dict__``: its class and all bases are written in Python."""
    cls = type(value)
    outside = cls.__module__.partition(".")[0] in _OUTSIDE or cls.__name__ == "SubprocVecEnv"
    return hasattr(value, "__dict__") and not outside and _is_python_class(cls)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1024)
def _is_python_class(cls: type) -> bool:
    bases = [base for base in cls.__mro__ if base.__module__ not in _KNOWN]
    in_c = any(isinstance(member, _C_MEMBERS) for base in bases for member in vars(base).values())
    slots = any("__slots__" in vars(base) and vars(base)["__slots__"] for base in bases)
    builtin_base = any(base is not object and base.__module__ == "builtins" for base in cls.__mro__)
    return not in_c and not slots and not builtin_base and type(cls).__module__ in ("builtins", "abc", "typing")
