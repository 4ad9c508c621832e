"""State dicts, checked against the networks and optimisers that are to take them.

An optimiser's own ``load_state_dict`` takes moments of any shape; a compiled update would read beyond them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.values import require, require_type


def check_state(name: str, state: Any, own: Any, *, exact: bool = True) -> None:
    """Refuse a state dict that does not fit.

    Args:
        name: for the error.
        state: as ``state_dict`` returned it.
        own: the network or optimiser that is to load it.
        exact: whether a network's state must have all its weights, and no others.

    Raises:
        UnsafeZipError: it does not fit.
    """
    if isinstance(own, torch.optim.Optimizer):
        check_optimizer(state, own)
        return
    named = isinstance(state, dict) and all(isinstance(part, Tensor) for part in state.values())
    require(state, named, "weights by name")
    expected = getattr(own, "_orig_mod", own).state_dict()
    common = set(state) & set(expected)
    others = {key for key in common if not _is_weight(state[key], expected[key])}
    others |= set(state) ^ set(expected) if exact else set()
    if others:
        few = ", ".join(sorted(str(key)[:100] for key in others)[:5])
        raise UnsafeZipError(f"the weights of {name} are not those of the agent's network: {few}")


def _is_weight(tensor: Tensor, own: Tensor) -> bool:
    same_kind = tensor.is_floating_point() == own.is_floating_point()
    return same_kind and tensor.shape == own.shape and tensor.numel() > 0


def check_optimizer(state: Any, optimizer: torch.optim.Optimizer) -> None:
    """Refuse a state dict that does not fit an optimiser.

    Args:
        state: as ``state_dict`` returned it.
        optimizer: that is to load it; each moment has the shape of its parameter, or is one number.

    Raises:
        UnsafeZipError: other parameters, options of other kinds, or moments of other shapes.
    """
    require(state, isinstance(state, dict) and set(state) == {"state", "param_groups"}, "the state of an optimiser")
    own = optimizer.param_groups
    groups = require_type(state["param_groups"], list)
    require(groups, len(groups) == len(own), f"{len(own)} groups of parameters")
    parameters: dict[int, Tensor] = {}
    for group, like in zip(groups, own, strict=True):
        parameters |= _parameters(require_type(group, dict), like["params"])
        for name, value in group.items():
            plain = value is None or isinstance(value, int | float)
            fits = name == "params" or (_alike(value, like[name]) if name in like else plain)
            require(value, fits, "the options of an optimiser")
    for index, moments in require_type(state["state"], dict).items():
        require(index, index in parameters, "moments of a parameter")
        for value in require_type(moments, dict).values():
            require(value, _is_moment(value, parameters[index]), "moments of the shape of their parameter")


def _parameters(group: dict[Any, Any], own: list[Tensor]) -> dict[int, Tensor]:
    numbers = require_type(group.get("params"), list)
    fits = len(numbers) == len(own) and all(type(number) is int for number in numbers)
    require(numbers, fits and len(set(numbers)) == len(own), f"the numbers of {len(own)} parameters")
    return dict(zip(numbers, own, strict=True))


def _alike(value: Any, own: Any) -> bool:
    """Whether an option is of the kind that the optimiser has itself."""
    if isinstance(value, Tensor):
        return value.numel() == 1
    if value is None or isinstance(value, bool):
        return own is None or isinstance(own, bool)
    if isinstance(value, tuple | list):
        return isinstance(own, tuple | list) and len(own) == len(value) and all(map(_is_number, value))
    return _is_number(value) and (_is_number(own) or isinstance(own, Tensor))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_moment(value: Any, parameter: Tensor) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 or value.shape == parameter.shape
    return value is None or isinstance(value, int | float)
