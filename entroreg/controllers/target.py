"""Targets of dual controllers: a number or a schedule, and whether any policy can reach it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from entroreg import _checks

Target: TypeAlias = float | Callable[[int], float]


def target_at(target: Target, step: int) -> float:
    """Return the target entropy at an update count, in nats.

    Args:
        target: a number, or a function from the update count to a number.
        step: updates done so far.

    Returns:
        The target, finite.

    Raises:
        TypeError: the target (or what the schedule returned) is not a number.
        ValueError: it is not finite.

    Example:
        >>> target_at(lambda step: -1.0 - step, 2)
        -3.0
    """
    return _checks.require_number("target entropy", target(step) if callable(target) else target)


def require_reachable(target: float, bound: str, lowest: float, highest: float) -> None:
    """Refuse a target that no policy can reach, because the coefficient would grow without limit.

    Args:
        target: nats.
        bound: "lower" (entropy is to stay above the target) or "upper" (below it).
        lowest: greatest lower bound of the entropy, nats.
        highest: least upper bound of the entropy, nats.

    Raises:
        ValueError: a lower bound at or above ``highest``, or an upper bound at or below ``lowest``.

    Example:
        >>> require_reachable(-1.0, "lower", -math.inf, 0.69)
    """
    if bound == "lower" and target >= highest:
        raise ValueError(
            f"target entropy must be below {highest:.4f} nats, the largest entropy any policy has here, "
            f"got {target:g}: alpha would grow without limit"
        )
    if bound == "upper" and target <= lowest:
        raise ValueError(
            f"target entropy must be above {lowest:.4f} nats, the smallest entropy any policy has here, "
            f"got {target:g}: the coefficient would grow without limit"
        )


UNBOUNDED = (-math.inf, math.inf)
