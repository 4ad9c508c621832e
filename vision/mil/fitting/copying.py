"""Copies of nested states, many times as fast as ``copy.deepcopy`` of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def copied(state: Any) -> Any:
    """Return a copy of nested dicts, lists and tuples that shares no tensor with them; tied tensors come apart.

    Example:
        >>> import torch
        >>> state = {"weight": torch.zeros(1), "steps": [1, 2]}
        >>> copied(state)["weight"].add_(1.0), state["weight"]
        (tensor([1.]), tensor([0.]))
    """
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(copied(value) for value in state)
    return state
