"""A small copy of the agent that a zip describes, built within limits before the agent itself.

A network is described by a few numbers, and a hostile file may ask for one that fills all memory. The copy is built
with the smallest replay buffer, and may allocate no more than the weights that the file really has. It also shows
that everything in the file fits, so that Stable-Baselines3 then meets no surprise.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Container, Mapping
from typing import Any

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.her import HerReplayBuffer
from torch import Tensor
from torch.overrides import TorchFunctionMode

from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.state_dicts import check_state
from entroreg.agents.safe_zip.values import require

_SLACK = 1 << 20  # elements
_MOST_CALLS = 10_000  # of torch, and a hundred for each tensor in the file: a usual agent needs ten
_BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Not the file's: what depends on the machine, and what ``load`` may be given anew.
_SMALL = {"buffer_size": 1, "n_envs": 1, "seed": None, "verbose": 0, "target_entropy": "auto"}


class _AllocationLimit(TorchFunctionMode):
    """Counts torch's calls and the elements that they are asked for, and stops what goes too far."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        parts = weights.values() if isinstance(weights, dict) else []
        tensors = [part for part in parts if isinstance(part, Tensor)]
        self._calls = _MOST_CALLS + 100 * len(tensors)
        self._elements = 2 * sum(tensor.numel() for tensor in tensors) + _SLACK

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._calls -= 1
        if func in _FACTORIES and args:
            sizes = args[0] if isinstance(args[0], tuple | list) else args
            self._elements -= math.prod(size for size in sizes if isinstance(size, int))
        if self._calls < 0 or self._elements < 0:
            raise UnsafeZipError("the zip describes a network that is larger than its weights")
        return func(*args, **(kwargs or {}))


_FACTORIES = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}


def rehearse(
    cls: type[OffPolicyAlgorithm], values: Mapping[str, Any], replaced: Container[str], params: Mapping[str, Any]
) -> OffPolicyAlgorithm:
    """Return a small agent of the given attributes, into which the given parameters fit.

    Args:
        cls: of the agent.
        values: attributes, the caller's own among them.
        replaced: names of those that are the caller's.
        params: state dicts by name.

    Raises:
        UnsafeZipError: no such agent can be built, or its parameters are others.
    """
    own_network = "policy_class" in replaced or "policy_kwargs" in replaced
    limit = contextlib.nullcontext() if own_network else _AllocationLimit(params.get("policy"))
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), limit:
            warnings.simplefilter("ignore")
            agent = _build(cls, values, replaced)
    except UnsafeZipError:
        raise
    except _BUILD_ERRORS as error:
        raise UnsafeZipError(
            f"no agent can be built of the settings in the zip ({type(error).__name__}: {str(error)[:300]})"
        ) from error
    expected = set(agent._get_torch_save_params()[0])
    if set(params) != expected:
        raise UnsafeZipError(f"the zip must have parameters of {sorted(expected)}, got {sorted(params)}")
    for name, state in params.items():
        check_state(name, state, recursive_getattr(agent, name))
    return agent


def check_variables(variables: Mapping[str, Any], agent: OffPolicyAlgorithm) -> None:
    """Refuse tensors beside the networks that the agent does not have, or has with another number of elements.

    Raises:
        UnsafeZipError: there is one.
    """
    own = agent._get_torch_save_params()[1]
    for name, value in variables.items():
        require(name, name in own, f"tensors named {own}")
        size = recursive_getattr(agent, name).numel()
        fits = value is None or (isinstance(value, Tensor) and value.numel() == size)
        require(value, fits, f"{size} numbers as {name}")


def _build(cls: Any, values: Mapping[str, Any], replaced: Container[str]) -> OffPolicyAlgorithm:
    agent: OffPolicyAlgorithm = cls(policy=values["policy_class"], env=None, device="cpu", _init_setup_model=False)
    for name, value in values.items():
        shadowed = getattr(type(agent), name, None)
        if callable(shadowed) or isinstance(shadowed, property):
            raise UnsafeZipError(f"the file is damaged: the attribute {name!r} is a method of the agent")
        # A copy, since building changes arguments and draws from spaces; the caller's own may not be copied.
        agent.__dict__[name] = value if name in replaced else copy.deepcopy(value)
    agent.__dict__.update(_SMALL)
    buffer = agent.replay_buffer_class
    if "replay_buffer_class" in replaced or (buffer is not None and issubclass(buffer, HerReplayBuffer)):
        if "replay_buffer_class" not in replaced:
            _build_her_buffer(agent)
        agent.replay_buffer_class, agent.replay_buffer_kwargs = None, {}
    agent._setup_model()
    return agent


def _build_her_buffer(agent: Any) -> None:
    """Try the options of a buffer that the agent itself makes only for an environment."""
    options = {"device": "cpu", "n_envs": 1, "optimize_memory_usage": agent.optimize_memory_usage, "env": None}
    HerReplayBuffer(1, agent.observation_space, agent.action_space, **options, **agent.replay_buffer_kwargs)
