"""Which objects show all of their state in Python, and which of their attributes are none of it."""

from __future__ import annotations

import functools
import types
from typing import Any

# Their objects stand for something outside: another process, a thread, a file.
_OUTSIDE = ("asyncio", "concurrent", "ctypes", "multiprocessing", "socket", "subprocess", "threading", "weakref")
_C_MEMBERS = (types.WrapperDescriptorType, types.MethodDescriptorType, types.BuiltinFunctionType)
_KNOWN = frozenset({"typing", "abc", "_abc", "builtins"})  # of object, Generic, ABC, which hold nothing
_OWN_SLOTS = frozenset({"__dict__", "__weakref__"})


class _Plain:
    """An object of a class without anything in C takes as much memory as one of these."""


# By the class that has them: constructors' arguments, renderers, log files, and what the next step overwrites
# before anyone reads it.
_LEFT_OUT = {
    "gymnasium.core.Env": {"spec"},
    "gymnasium.core.Wrapper": {"_cached_spec"},
    "gymnasium.utils.ezpickle.EzPickle": {"_ezpickle_args", "_ezpickle_kwargs"},
    "gymnasium.utils.record_constructor.RecordConstructorArgs": {"_saved_kwargs"},
    "gymnasium.envs.mujoco.mujoco_env.MujocoEnv": {"mujoco_renderer"},
    "stable_baselines3.common.monitor.Monitor": {"results_writer"},
    "stable_baselines3.common.vec_env.base_vec_env.VecEnv": {"reset_infos"},
    "stable_baselines3.common.vec_env.base_vec_env.VecEnvWrapper": {"class_attributes"},
    "stable_baselines3.common.vec_env.dummy_vec_env.DummyVecEnv": {"buf_infos"},
    "stable_baselines3.common.vec_env.vec_monitor.VecMonitor": {"results_writer"},
}

# These compile their model anew for each episode, so its integers differ: they are told to do it again.
_REBUILT = frozenset({"entroreg.envs.navigation.environment.NavigationEnv"})


def name_of(value: Any) -> str:
    """Return the name of a value's class, with its module."""
    return qualified(type(value))


def qualified(cls: Any) -> str:
    """Return the name of a class or a function, with its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


def left_out(value: Any) -> frozenset[str]:
    """Return the attributes of an object that are no state."""
    return frozenset().union(*(_LEFT_OUT.get(qualified(base), ()) for base in type(value).__mro__))


def is_rebuilt(value: Any) -> bool:
    """Whether an object has ``state`` and ``restore``, of which the second compiles its model anew."""
    return any(qualified(base) in _REBUILT for base in type(value).__mro__)


def is_named_tuple(value: Any) -> bool:
    """Whether a value is a named tuple, and nothing besides."""
    return isinstance(value, tuple) and hasattr(value, "_fields") and not hasattr(value, "__dict__")


def is_python_object(value: Any) -> bool:
    """Whether all that an object holds is in its ``__dict__``: its class and all bases are written in Python."""
    cls: Any = type(value)
    return hasattr(value, "__dict__") and _is_python_class(cls)


@functools.lru_cache(maxsize=1024)
def _is_python_class(cls: type) -> bool:
    bases = [base for base in cls.__mro__ if base.__module__ not in _KNOWN]
    outside = any(base.__module__.partition(".")[0] in _OUTSIDE for base in bases)
    outside |= any(base.__name__ == "SubprocVecEnv" for base in bases)
    in_c = any(isinstance(member, _C_MEMBERS) for base in bases for member in vars(base).values())
    in_c |= (cls.__basicsize__, cls.__itemsize__) != (_Plain.__basicsize__, _Plain.__itemsize__)
    slots = {slot for base in bases for slot in _as_tuple(vars(base).get("__slots__", ()))} - _OWN_SLOTS
    return not outside and not in_c and not slots and type(cls).__module__ in ("builtins", "abc", "typing")


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
