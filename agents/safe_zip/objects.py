"""Stable-Baselines3's own values from the nodes of a pickle: noise, schedules, frequencies; and allowed classes."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common import buffers, noise, torch_layers, utils
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.her import GoalSelectionStrategy, HerReplayBuffer
from stable_baselines3.sac import policies
from torch import nn

from entroreg.agents import blind_actor_policy, discrete_policy, packed_replay
from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.pickles import Made, Name
from entroreg.agents.safe_zip.values import Builder, Key, Maker, key_of, require, require_type

_MOST_NOISES = 10_000
_GETATTR: Key = ("builtins", "getattr")

# Classes whose constructors, with plain arguments, do nothing but make a network, an optimiser or an array.
_POLICIES: tuple[type, ...] = (
    policies.SACPolicy,
    policies.CnnPolicy,
    policies.MultiInputPolicy,
    blind_actor_policy.BlindActorPolicy,
    discrete_policy.DiscreteSACPolicy,
    discrete_policy.MlpPolicy,
    discrete_policy.CnnPolicy,
    discrete_policy.MultiInputPolicy,
)
_EXTRACTORS: tuple[type, ...] = (
    torch_layers.CombinedExtractor,
    torch_layers.FlattenExtractor,
    torch_layers.NatureCNN,
)
_ACTIVATIONS: tuple[type, ...] = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU,
    nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus,
    nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
)  # fmt: skip
# Those whose state has a number or a tensor of the parameter's shape: see state_dicts.py.
_OPTIMIZERS: tuple[type, ...] = (
    torch.optim.ASGD, torch.optim.Adadelta, torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW,
    torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Rprop,
    torch.optim.SGD, RMSpropTFLike,
)  # fmt: skip
BUFFERS: tuple[type, ...] = (
    buffers.DictReplayBuffer,
    buffers.NStepReplayBuffer,
    buffers.ReplayBuffer,
    HerReplayBuffer,
    packed_replay.PackedReplayBuffer,
)
_NUMBERS: tuple[type, ...] = (
    np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32,
    np.uint64,
)  # fmt: skip
_NAMED = (*_POLICIES, *_EXTRACTORS, *_ACTIVATIONS, *_OPTIMIZERS, *BUFFERS, *_NUMBERS)

CLASSES: dict[Key, Any] = {
    **{(named.__module__, named.__qualname__): named for named in _NAMED},
    ("builtins", "bool"): bool,
    ("builtins", "float"): float,
    ("builtins", "int"): int,
    ("numpy", "bool"): np.bool_,
    ("numpy", "bool_"): np.bool_,
}


def train_frequency(builder: Builder, made: Made) -> TrainFreq:
    """Return a TrainFreq."""
    frequency, unit = builder.arguments(made, 2)
    return TrainFreq(require_type(frequency, int), require_type(unit, TrainFrequencyUnit))


def enum_member(builder: Builder, made: Made) -> Enum:
    """Return a member of an enum, from its class and its value."""
    return _member(_ENUMS[key_of(made.function)], "value", *builder.arguments(made, 1))


def enum_attribute(builder: Builder, made: Made) -> Enum:
    """Return a member of an enum, from ``getattr`` of its class and its name, as Python 3.11 writes it.

    Nothing is ever got from anything: the pair is looked up among the members.
    """
    arguments = require_type(made.arguments, tuple)
    kind = arguments[0] if len(arguments) == 2 else None
    name = key_of(kind) if isinstance(kind, Name) else ("", "")
    if name not in _ENUMS:
        raise UnsafeZipError("builtins.getattr has no place here", ["builtins.getattr"])
    return _member(_ENUMS[name], "name", builder.build(arguments[1]))


def _member(kind: type[Enum], attribute: str, wanted: Any) -> Enum:
    require_type(wanted, str, int)
    members = [member for member in kind if getattr(member, attribute) == wanted]
    require(members, bool(members), f"a member of {kind.__name__}")
    return members[0]


def normal_noise(builder: Builder, made: Made) -> noise.NormalActionNoise:
    """Return Gaussian action noise."""
    fields = _built(builder, made)
    mean, sigma = (_array(fields, name) for name in ("_mu", "_sigma"))
    return noise.NormalActionNoise(mean, sigma, _dtype(fields))


def ornstein_uhlenbeck_noise(builder: Builder, made: Made) -> noise.OrnsteinUhlenbeckActionNoise:
    """Return Ornstein-Uhlenbeck action noise, where it was."""
    fields = _built(builder, made)
    mean, sigma, previous = (_array(fields, name) for name in ("_mu", "_sigma", "noise_prev"))
    theta, step = (_number(fields, name) for name in ("_theta", "_dt"))
    start = None if fields.get("initial_noise") is None else _array(fields, "initial_noise")
    process = noise.OrnsteinUhlenbeckActionNoise(
        mean, sigma, theta, step, initial_noise=start, dtype=_dtype(fields)
    )
    process.noise_prev = previous
    return process


def vectorized_noise(builder: Builder, made: Made) -> noise.VectorizedActionNoise:
    """Return the action noise of several environments."""
    fields = _built(builder, made)
    each = require_type(fields.get("_noises"), list)
    require(each, 0 < len(each) <= _MOST_NOISES, f"1 to {_MOST_NOISES} kinds of noise")
    parts = [require_type(part, noise.ActionNoise) for part in [fields.get("_base_noise"), *each]]
    together = noise.VectorizedActionNoise(parts[0], 1)
    together.n_envs = len(each)
    together.noises = parts[1:]
    return together


def constant_schedule(builder: Builder, made: Made) -> utils.ConstantSchedule:
    """Return Stable-Baselines3's constant schedule."""
    return utils.ConstantSchedule(_number(_built(builder, made), "val"))


def linear_schedule(builder: Builder, made: Made) -> utils.LinearSchedule:
    """Return Stable-Baselines3's linear schedule."""
    fields = _built(builder, made)
    start, end, fraction = (_number(fields, name) for name in ("start", "end", "end_fraction"))
    return utils.LinearSchedule(start, end, require(fraction, fraction > 0, "a fraction above 0"))


def float_schedule(builder: Builder, made: Made) -> utils.FloatSchedule:
    """Return Stable-Baselines3's wrapper of a schedule."""
    inner = _built(builder, made).get("value_schedule")
    return utils.FloatSchedule(require_type(inner, utils.ConstantSchedule, utils.LinearSchedule))


def path(builder: Builder, made: Made) -> Path:
    """Return a path; nothing is opened."""
    parts = require_type(made.arguments, tuple)
    return Path(*(require_type(builder.build(part), str) for part in parts))


_ENUMS: dict[Key, type[Enum]] = {
    ("stable_baselines3.common.type_aliases", "TrainFrequencyUnit"): TrainFrequencyUnit,
    ("stable_baselines3.her.goal_selection_strategy", "GoalSelectionStrategy"): GoalSelectionStrategy,
}
# The classes of enums stand alone only in getattr(class, name).
ENUM_NAMES = frozenset(_ENUMS)
OBJECT_MAKERS: dict[Key, Maker] = {
    _GETATTR: enum_attribute,
    **dict.fromkeys(_ENUMS, enum_member),
    ("pathlib", "PosixPath"): path,
    ("pathlib._local", "PosixPath"): path,
    ("stable_baselines3.common.noise", "NormalActionNoise"): normal_noise,
    ("stable_baselines3.common.noise", "OrnsteinUhlenbeckActionNoise"): ornstein_uhlenbeck_noise,
    ("stable_baselines3.common.noise", "VectorizedActionNoise"): vectorized_noise,
    ("stable_baselines3.common.type_aliases", "TrainFreq"): train_frequency,
    ("stable_baselines3.common.utils", "ConstantSchedule"): constant_schedule,
    ("stable_baselines3.common.utils", "FloatSchedule"): float_schedule,
    ("stable_baselines3.common.utils", "LinearSchedule"): linear_schedule,
}


def _built(builder: Builder, made: Made) -> dict[str, Any]:
    return {name: builder.build(node) for name, node in builder.fields(made).items()}


def _array(fields: dict[str, Any], name: str) -> np.ndarray:
    array: np.ndarray = require_type(fields.get(name), np.ndarray)
    return array


def _dtype(fields: dict[str, Any]) -> Any:
    return require_type(fields.get("_dtype", np.float32), type, np.dtype)


def _number(fields: dict[str, Any], name: str) -> float:
    return float(require_type(fields.get(name), int, float, np.number))
