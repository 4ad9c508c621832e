"""Numbers as a reader wants them: as many digits as their interval bears."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["count_text", "estimate_text", "quantity_text", "ratio_text", "shorten", "tick_text"]


def estimate_text(value: float, interval: Sequence[float] | None, unit: str = "") -> str:
    """Return a value with its interval, both with the digits that the interval's width gives sense to.

    Example:
        >>> estimate_text(92.3456, [72.1, 124.9])
        '92 [72, 125]'
        >>> estimate_text(0.94512, [0.9304, 0.9513], "s")
        '0.945 s [0.930, 0.951]'
        >>> estimate_text(500.0, [500.0, 500.0])
        '500 [500, 500]'
        >>> estimate_text(3.14159, None), estimate_text(45.12, [38.1, 51.3], "1/s")
        ('3.142', '45/s [38, 51]')
    """
    suffix = unit[1:] if unit.startswith("1/") else f" {unit}" if unit else ""
    if interval is None:
        return f"{_significant(value)}{suffix}"
    low, high = interval
    decimals = _decimals(high - low, max(abs(value), abs(low), abs(high)))
    if decimals is None:
        return f"{_significant(value)}{suffix} [{_significant(low)}, {_significant(high)}]"
    return f"{_fixed(value, decimals)}{suffix} [{_end(low, 0.0, decimals)}, {_fixed(high, decimals)}]"


def ratio_text(value: float, interval: Sequence[float] | None) -> str:
    """Return a ratio with its interval.

    Example:
        >>> ratio_text(1.8649, [1.81, 1.92])
        '1.86 [1.81, 1.92]'
        >>> ratio_text(89.634, None)
        '89.6'
    """
    decimals = max(0, 2 - max(0, math.floor(math.log10(value)))) if value > 0 else 2
    if interval is None:
        return _fixed(value, decimals)
    low, high = interval
    return f"{_fixed(value, decimals)} [{_end(low, 1.0, decimals)}, {_fixed(high, decimals)}]"


def tick_text(value: float, step: float) -> str:
    """Return the number at a tick of an axis whose ticks are ``step`` apart.

    Example:
        >>> tick_text(20000.0, 5000.0), tick_text(0.25, 0.05), tick_text(2.5e6, 5e5)
        ('20k', '0.25', '2.5M')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size and step >= size / 100:
            return f"{value / size:g}{letter}"
    return _fixed(value, max(0, min(9, -math.floor(math.log10(step) + 1e-9))))


def quantity_text(quantity: Mapping[str, Any]) -> str:
    """Return a quantity with its unit and which values are better."""
    unit = f", {quantity['unit']}" if quantity["unit"] else ""
    return f"{quantity['name']}{unit} ({quantity['better']} is better)"


def count_text(done: int, expected: int, over: str) -> str:
    """Return how many seeds or rounds there are of those that there should be.

    Example:
        >>> count_text(4, 5, "seed"), count_text(1, 1, "round")
        ('4 of 5 seeds', '1 of 1 round')
    """
    return f"{done} of {expected} {over}{'' if expected == 1 else 's'}"


def shorten(text: str, length: int) -> str:
    """Return the text, cut to a length with an ellipsis for what is left out of its middle."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def _decimals(width: float, largest: float) -> int | None:
    """Two digits of an interval's width, at most six of the number; None where the width is (all but) zero."""
    if width <= 1e-9 * largest or width == 0.0:
        return None
    most = 5 - math.floor(math.log10(largest))
    return max(0, min(1 - math.floor(math.log10(width)), most))


def _end(low: float, even: float, decimals: int) -> str:
    """The low end, with more digits where it would be shown as the number that says even, which it is not."""
    further = next((more for more in range(3) if low == even or round(low, decimals + more) != even), 3)
    return _fixed(low, decimals + further)


def _significant(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0.0 else text
