"""The argument checks of every public boundary: type, dtype, shape, range; tensor values only on request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def require_floating(name: str, tensor: Tensor, *, min_dim: int = 1) -> None:
    """Refuse anything but a floating tensor with at least ``min_dim`` dimensions."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating, got {tensor.dtype}: convert with {name}.float()")
    if tensor.dim() < min_dim:
        raise ValueError(f"{name} must have at least {min_dim} dimension(s), got shape {tuple(tensor.shape)}")


def require_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse two tensors that differ in shape or device: nothing here broadcasts silently."""
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} must have the shape of {other_name}, {tuple(other.shape)}, got {tuple(tensor.shape)}"
        )
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}")


def require_mask(mask: Tensor | None, like_name: str, like: Tensor) -> None:
    """Refuse a mask that is not boolean or does not have the shape and device of ``like``."""
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean (True = keep), got {mask.dtype}: convert with mask.bool()")
    require_same_shape("mask", mask, like_name, like)


def require_no_nan(name: str, tensor: Tensor) -> None:
    """Refuse NaN and +inf; reads the values, so callers ask for it with ``validate=True``."""
    bad = torch.isnan(tensor) | torch.isposinf(tensor)
    if bool(bad.any()):
        index = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(
            f"{name} must be finite or -inf, got {float(tensor[index])} at index {index}: "
            "look for an overflow or a division by zero upstream"
        )


def require_number(name: str, value: float, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Return ``value`` as a float; refuse anything that is not a finite number in ``[low, high]``."""
    if not _is_number(value):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be {_range(low, high)}, got {value}")
    return float(value)


def require_positive(name: str, value: float) -> float:
    """Return ``value`` as a float; refuse anything that is not a finite number above 0."""
    number = require_number(name, value)
    if number <= 0.0:
        raise ValueError(f"{name} must be finite and above 0, got {value}")
    return number


def require_count(name: str, value: int) -> int:
    """Return ``value``; refuse anything that is not an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def require_fraction(name: str, value: float) -> float:
    """Return ``value`` as a float; refuse anything that is not a number in (0, 1]."""
    if not 0.0 < (number := require_number(name, value)) <= 1.0:
        raise ValueError(f"{name} must be in (0, 1], got {value}")
    return number


def require_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a word that is not one of ``choices``."""
    allowed = sorted(choices)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def require_keys(name: str, state: Mapping[str, Any], expected: Iterable[str]) -> None:
    """Refuse a state dict with missing or unknown keys."""
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    if missing or unknown:
        raise ValueError(f"{name} does not fit: missing keys {missing}, unknown keys {unknown}")


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype to accumulate in: half precision sums lose digits, so at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _is_number(value: object) -> bool:
    # Real and not int | float: numpy's scalars are numbers too (gymnasium's Discrete.n is one).
    return isinstance(value, Real) and not isinstance(value, bool)


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "finite"
    if math.isinf(high):
        return f"finite and at least {low:g}"
    return f"in [{low:g}, {high:g}]"
