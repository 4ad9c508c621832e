"""The attributes of an agent in the member ``data``: JSON, with pickles in base64 where JSON has no word."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.objects import CLASSES, ENUM_NAMES, OBJECT_MAKERS
from entroreg.agents.safe_zip.pickles import read_pickle
from entroreg.agents.safe_zip.refusals import refused_in
from entroreg.agents.safe_zip.spaces import SPACE_MAKERS
from entroreg.agents.safe_zip.values import PLAIN_MAKERS, Builder, require, require_type

MAKERS = {**PLAIN_MAKERS, **SPACE_MAKERS, **OBJECT_MAKERS}
ALLOWED = frozenset({*MAKERS, *CLASSES, *ENUM_NAMES, ("numpy", "ndarray")})

_LARGEST = 32 << 20  # bytes of the JSON; spaces of large images have some MB
_MOST_PARTS = 1_000_000  # of the JSON, each of which takes some 60 bytes of memory
_DEEPEST = 50
_MOST_STEPS = 500_000  # opcodes of all pickles together
_HUGE = 1e300
_SERIALIZED = ":serialized:"

# Made anew by the agent, or not to be had from a file: an environment is code, and its name would be imported.
_NEVER_READ = {"_logger", "batch_norm_stats", "batch_norm_stats_target", "device", "env", "lr_schedule", "policy"}
# Left out where they cannot be read: only the log and the first step after loading show it.
_DISPENSABLE = {
    "_last_episode_starts",
    "_last_obs",
    "_last_original_obs",
    "ep_info_buffer",
    "ep_success_buffer",
    "start_time",
    "tensorboard_log",
}
_NEEDED = ("policy_class", "policy_kwargs", "observation_space", "action_space")
LEARNING_RATE = "learning_rate"


@dataclass
class Attributes:
    """What ``data`` holds.

    Attributes:
        names: of all.
        values: of those that could be read.
        refused: names in the file that are not on the list, as "attribute: module.name".
        learning_rate_is_code: whether the learning rate is a function or class of the file's own.
    """

    names: frozenset[str]
    values: dict[str, Any] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    learning_rate_is_code: bool = False


def read_attributes(raw: bytes, replaced: Container[str]) -> Attributes:
    """Return the attributes of an agent.

    Args:
        raw: the member ``data``.
        replaced: names that the caller replaces, whose values are not read.

    Raises:
        UnsafeZipError: damaged JSON, a damaged pickle, or an attribute of a kind that it cannot have.
    """
    entries = _read_json(raw)
    found = Attributes(frozenset(entries))
    budget = [_MOST_STEPS]
    builder = Builder(MAKERS, CLASSES, 0, len(raw))
    for name, entry in entries.items():
        if name in replaced or name in _NEVER_READ:
            continue
        try:
            _read_one(found, name, entry, builder, budget)
        except UnsafeZipError:
            if name not in _DISPENSABLE:
                raise
    missing = [name for name in _NEEDED if name not in entries]
    if missing:
        raise UnsafeZipError(f"the zip is of no agent: it has no {', '.join(missing)}")
    return found


def _read_one(found: Attributes, name: str, entry: Any, builder: Builder, budget: list[int]) -> None:
    value, refused = _value_of(entry, builder, budget)
    if not refused:
        check_attribute(name, value)
        found.values[name] = value
    elif name == LEARNING_RATE:
        found.learning_rate_is_code = True
    elif name not in _DISPENSABLE:
        found.refused += [f"{name}: {word}" for word in refused]


def _value_of(entry: Any, builder: Builder, budget: list[int]) -> tuple[Any, list[str]]:
    """Return an entry's value, or None and the names for which it is refused."""
    if not isinstance(entry, dict) or _SERIALIZED not in entry:
        return entry, []
    text = require_type(entry[_SERIALIZED], str)
    try:
        content = base64.b64decode(text.encode(), validate=True)
    except ValueError as error:
        raise UnsafeZipError("the file is damaged: a value is not in base64") from error
    root, steps = read_pickle(content, budget[0])
    budget[0] -= steps
    builder.allow(steps)
    refused = refused_in(root, ALLOWED)
    return (None if refused else builder.build(root)), refused


def _read_json(raw: bytes) -> dict[str, Any]:
    parts = sum(raw.count(mark) for mark in (b"[", b"{", b","))
    if len(raw) > _LARGEST or parts > _MOST_PARTS:
        raise UnsafeZipError(f"member 'data' has {len(raw)} bytes, more than any agent's")
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UnsafeZipError("the file is damaged: member 'data' is no JSON") from error
    _require_shallow(require_type(entries, dict), _DEEPEST)
    return entries  # type: ignore[no-any-return]


def _require_shallow(value: Any, left: int) -> None:
    require(value, left > 0, "JSON that is less deep")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _require_shallow(part, left - 1)


def check_attribute(name: str, value: Any) -> None:
    """Refuse a value of a kind that the attribute of Stable-Baselines3 cannot have.

    Raises:
        UnsafeZipError: it is of another kind, or so large that training would take all memory.
    """
    require(name, name.isidentifier() and not name.startswith("__"), "names of attributes")
    if name in _KINDS and not _KINDS[name](value):
        raise UnsafeZipError(f"the file is damaged: {name} cannot be a {type(value).__name__} of this value")


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        number = value.item() if isinstance(value, np.integer) else value
        return isinstance(number, int) and not isinstance(number, bool) and low <= number <= high

    return check


def _number(low: float = -_HUGE, high: float = _HUGE) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        number = value.item() if isinstance(value, np.number) else value
        numeric = isinstance(number, int | float) and not isinstance(number, bool)
        return numeric and low <= number <= high  # NaN is in no interval

    return check


def _kind(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _either(*checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(check(value) for check in checks)


def _subclass(base: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, type) and issubclass(value, base)


def _options(value: Any) -> bool:
    """Whether these are arguments by name, without numbers that would make a loop of an option."""
    return isinstance(value, dict) and all(
        isinstance(key, str) and not (isinstance(part, int) and abs(part) > _MOST_PARTS)
        for key, part in value.items()
    )


_NONE = _kind(type(None))
_COUNT = _whole(0, 2**63 - 1)
_RATE = _either(_number(0.0), _kind(ConstantSchedule, FloatSchedule, LinearSchedule))
_EVERY = _either(_whole(1, 10**9), _kind(TrainFreq, list, tuple))
_KINDS: dict[str, Callable[[Any], bool]] = {
    "_current_progress_remaining": _number(),
    "_episode_num": _COUNT,
    "_learning_rate_is_code": _flag,
    "_n_updates": _COUNT,
    "_num_timesteps_at_start": _COUNT,
    "_stats_window_size": _whole(1, 1_000_000),
    "_total_timesteps": _COUNT,
    "action_noise": _either(_NONE, _kind(ActionNoise)),
    "action_space": _kind(spaces.Space),
    "batch_size": _whole(1, 10**7),
    "buffer_size": _whole(1, 10**8),
    "ent_coef": _either(_kind(str), _number(0.0)),
    "ent_coef_optimizer": _NONE,
    "ep_info_buffer": _either(_NONE, _kind(deque)),
    "ep_success_buffer": _either(_NONE, _kind(deque)),
    "gamma": _number(),
    "gradient_steps": _whole(-1, 10**6),
    "learning_rate": _RATE,
    "learning_starts": _COUNT,
    "log_ent_coef": _NONE,
    "n_envs": _whole(1, 2**16),
    "n_steps": _whole(1, 10_000),
    "num_timesteps": _COUNT,
    "observation_space": _kind(spaces.Space),
    "optimize_memory_usage": _flag,
    "policy_class": _subclass(BasePolicy),
    "policy_kwargs": _options,
    "replay_buffer_class": _either(_NONE, _subclass(ReplayBuffer)),
    "replay_buffer_kwargs": _options,
    "sde_sample_freq": _whole(-1, 10**9),
    "seed": _either(_NONE, _whole(0, 2**32 - 1)),
    "start_time": _number(),
    "target_entropy": _either(_kind(str), _number()),
    "target_update_interval": _whole(1, 10**9),
    "tau": _number(0.0, 1.0),
    "tensorboard_log": _either(_NONE, _kind(str, Path)),
    "train_freq": _EVERY,
    "use_sde": _flag,
    "use_sde_at_warmup": _flag,
    "verbose": _whole(-1, 10),
}
