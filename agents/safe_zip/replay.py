"""A saved replay buffer, read as any other pickle and put into a fresh buffer of the agent's own task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.her import HerReplayBuffer

from entroreg.agents.packed_replay import PackedReplayBuffer, can_pack
from entroreg.agents.safe_zip.attributes import ALLOWED, MAKERS
from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.objects import BUFFERS, CLASSES
from entroreg.agents.safe_zip.pickles import Made, Name, Node, read_pickle
from entroreg.agents.safe_zip.refusals import refused_in
from entroreg.agents.safe_zip.values import Builder, found, key_of, require, require_shape, require_type

_MOST_STEPS = 8_000_000  # HER keeps a dict for each transition
_SLACK = 1 << 20
_MOST_ENVS = 2**16
_KINDS = {(kind.__module__, kind.__qualname__): kind for kind in BUFFERS}
_RECONSTRUCT = ("numpy._core.multiarray", "_reconstruct")
# The agent has its own.
_OWN = {"action_dim", "action_space", "columns", "device", "env", "obs_shape", "observation_space"}
_INFOS = "infos"


def read_replay_buffer(content: bytes, observation_space: spaces.Space[Any], action_space: Any) -> ReplayBuffer:
    """Return the replay buffer that ``save_replay_buffer`` wrote.

    Args:
        content: of the file.
        observation_space: of the agent.
        action_space: of the agent.

    Returns:
        A buffer of the saved class and size on the CPU.

    Raises:
        UnsafeZipError: damaged, of another task, or not to be loaded without trust; it lists what was refused.
    """
    root, steps = read_pickle(content, _MOST_STEPS)
    refused = refused_in(root, {*ALLOWED, ("torch", "device")})
    if refused:
        raise UnsafeZipError(
            f"the replay buffer holds classes that are not known to be harmless: {'; '.join(refused)}. Load it "
            "with trust=True if you trust whoever made the file: that runs what is in it",
            refused,
        )
    made = require_type(root, Made)
    kind = found(_KINDS, key_of(require_type(made.function, Name)))
    if issubclass(kind, DictReplayBuffer) != isinstance(observation_space, spaces.Dict):
        raise UnsafeZipError(f"the replay buffer is a {kind.__name__}, which is not for observations of this agent")
    builder = Builder(MAKERS, CLASSES, steps, len(content) + _SLACK)
    fields = {name: node for name, node in builder.fields(made).items() if name not in _OWN}
    infos = {_INFOS: _infos(builder, fields.pop(_INFOS))} if _INFOS in fields else {}
    values = {**{name: builder.build(node) for name, node in fields.items()}, **infos}
    return _filled(kind, values, observation_space, action_space)


def _filled(kind: type[ReplayBuffer], values: dict[str, Any], observations: Any, actions: Any) -> ReplayBuffer:
    """Return a buffer whose attributes are the given ones, each of the kind and shape that a fresh one has."""
    size, envs, position = (_whole(values, name) for name in ("buffer_size", "n_envs", "pos"))
    require(values, 0 < envs <= _MOST_ENVS and 0 <= position < size, "a position within the buffer")
    if "handle_timeout_termination" not in values:  # before Stable-Baselines3 1.1
        dones = require_type(values.get("dones"), np.ndarray)
        values |= {"handle_timeout_termination": False, "timeouts": np.zeros_like(dones)}
    buffer = _fresh(kind, values, envs, observations, actions)
    state = buffer.__getstate__() if isinstance(buffer, PackedReplayBuffer) else buffer.__dict__
    own = {name: value for name, value in state.items() if name not in _OWN}
    if set(values) != set(own):
        others = sorted(name[:100] for name in set(values) ^ set(own))[:5]
        raise UnsafeZipError(f"the replay buffer is of another version: it differs in {others}")
    for name, value in values.items():
        if not _fits(value, own[name], size, per_row=name != "_current_ep_start"):
            raise UnsafeZipError(f"the replay buffer is damaged or of another task: its {name} does not fit")
    for name, longest in (("ep_start", size - 1), ("_current_ep_start", size - 1), ("ep_length", size)):
        places = values.get(name, np.zeros(1, dtype=np.int64))
        require(places, bool(places.min() >= 0 and places.max() <= longest), "episodes within the buffer")
    buffer.__dict__.update(values)
    if isinstance(buffer, PackedReplayBuffer):
        buffer.__setstate__(buffer.__getstate__())
    return buffer


def _fresh(kind: Any, values: dict[str, Any], envs: int, observations: Any, actions: Any) -> ReplayBuffer:
    """Return an empty buffer of one row."""
    options: dict[str, Any] = {"n_envs": envs, "device": "cpu"}
    for name in ("optimize_memory_usage", "handle_timeout_termination"):
        options[name] = require_type(values.get(name), bool)
    if issubclass(kind, HerReplayBuffer):
        options["env"] = None
    base = ReplayBuffer if kind is PackedReplayBuffer else kind
    try:
        buffer: ReplayBuffer = base(1, observations, actions, **options)
    except (AssertionError, NotImplementedError, ValueError) as error:
        raise UnsafeZipError(f"the replay buffer has impossible settings ({error})") from error
    if kind is not PackedReplayBuffer:
        return buffer
    require(buffer, can_pack(buffer), "a packed buffer for vectors")
    return PackedReplayBuffer.like(buffer)


def _fits(value: Any, own: Any, size: int, *, per_row: bool) -> bool:
    """Whether a value is of the kind of a fresh buffer's own; arrays have ``size`` rows in place of one."""
    if isinstance(own, dict):
        same = isinstance(value, dict) and set(value) == set(own)
        return same and all(_fits(value[key], part, size, per_row=per_row) for key, part in own.items())
    if isinstance(own, np.ndarray):
        shape = (size, *own.shape[1:]) if per_row else own.shape
        return isinstance(value, np.ndarray) and value.dtype.kind == own.dtype.kind and value.shape == shape
    if isinstance(own, int | float) and not isinstance(own, bool):
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    return type(value) is type(own)


def _whole(values: dict[str, Any], name: str) -> int:
    value: int = require_type(values.get(name), int)
    return value


def _infos(builder: Builder, node: Node) -> np.ndarray:
    """Return the array of dicts that HER keeps beside the transitions."""
    made = require_type(node, Made)
    require(made, key_of(require_type(made.function, Name)) == _RECONSTRUCT, "an array of dicts")
    state = require_type(made.state, tuple)
    require(state, len(state) == 5 and isinstance(state[4], list), "the state of an array of dicts")
    shape, items = require_shape(state[1]), state[4]
    require(items, len(items) == math.prod(shape), "a dict for each transition")
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = require_type(builder.build(item), dict)
    return array.reshape(shape)
