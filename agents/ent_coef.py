"""Stable-Baselines3's words for the entropy coefficient and its target, as values."""

from __future__ import annotations

import math
from typing import Any

from entroreg import _checks
from entroreg.controllers import Target

_WORDS = 'ent_coef must be "auto", "auto_<initial alpha above 0>", a number or a controller'


def target_of(target: str | Target, default: float) -> Target:
    """Return the target entropy of "auto" (the default), a number or a schedule; nats."""
    if callable(target):
        return target
    if isinstance(target, str) and target == "auto":
        return default
    try:
        return float(target)  # also NumPy's numbers, as in target_entropy=-np.prod(action_space.shape)
    except (TypeError, ValueError) as error:
        raise type(error)(f'target_entropy must be "auto", a number or a schedule, got {target!r}') from None


def initial_alpha_of(requested: str) -> float:
    """Return the initial alpha of "auto" or "auto_<initial>"."""
    word, given, initial = requested.partition("_")
    try:
        value = float(initial) if given else 1.0
    except ValueError:
        value = math.nan
    if word != "auto" or not value > 0.0:
        raise ValueError(f"{_WORDS}, got {requested!r}")
    return value


def constant_of(requested: Any) -> float:
    """Return a coefficient that is not learned, at least 0."""
    try:
        number = float(requested)
    except ValueError:
        raise ValueError(f"{_WORDS}, got {requested!r}") from None
    except TypeError:
        raise TypeError(
            f'ent_coef must be "auto", a number or a controller such as Dual(...), got {type(requested).__name__}'
        ) from None
    return _checks.require_number("ent_coef", number, low=0.0)
