"""Schedules: functions of the update count that can be written to JSON and read back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from entroreg import _checks

Schedule: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class LinearSchedule:
    r"""A straight line from ``start`` to ``end``, then constant.

    $$f(t) = \mathrm{start} + (\mathrm{end} - \mathrm{start}) \min(t / \mathrm{steps}, 1)$$

    Attributes:
        start: value at update 0.
        end: value from update ``steps`` on.
        steps: number of updates, at least 1.

    Example:
        >>> LinearSchedule(1.0, 0.0, steps=10)(5)
        0.5
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_fields(self)

    def __call__(self, step: int) -> float:
        """Return the value at update ``step``."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class CosineSchedule:
    r"""Half a cosine from ``start`` to ``end``, then constant.

    $$f(t) = \mathrm{end} + (\mathrm{start} - \mathrm{end}) (1 + \cos(\pi \min(t / \mathrm{steps}, 1))) / 2$$

    Attributes:
        start: value at update 0.
        end: value from update ``steps`` on.
        steps: number of updates, at least 1.

    Example:
        >>> CosineSchedule(1.0, 0.0, steps=10)(5)
        0.5
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_fields(self)

    def __call__(self, step: int) -> float:
        """Return the value at update ``step``."""
        fraction = min(step / self.steps, 1.0)
        return self.end + (self.start - self.end) * (1.0 + math.cos(math.pi * fraction)) / 2.0


_KINDS: dict[str, type[LinearSchedule] | type[CosineSchedule]] = {
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
}


def to_json(value: float | Schedule) -> Any:
    """Return a number or one of this module's schedules as JSON data, and None for any other callable.

    Args:
        value: a number or a schedule.

    Returns:
        The number, a dict with ``kind`` and the fields, or None: code cannot be written down.

    Example:
        >>> to_json(LinearSchedule(1.0, 0.0, steps=10))
        {'kind': 'linear', 'start': 1.0, 'end': 0.0, 'steps': 10}
    """
    if not callable(value):
        return float(value)
    for kind, schedule in _KINDS.items():
        if isinstance(value, schedule):
            return {"kind": kind, **asdict(value)}
    return None


def from_json(data: Any) -> float | Schedule:
    """Return what ``to_json`` wrote.

    Args:
        data: a number, or a dict with ``kind`` and the fields of that schedule.

    Returns:
        The number or the schedule.

    Raises:
        TypeError: neither a number nor a dict.
        ValueError: unknown kind, or missing or unknown fields.

    Example:
        >>> from_json({"kind": "cosine", "start": 1.0, "end": 0.0, "steps": 10})
        CosineSchedule(start=1.0, end=0.0, steps=10)
    """
    if not isinstance(data, dict):
        return _checks.require_number("schedule", data)
    fields = dict(data)
    kind = fields.pop("kind", "")
    _checks.require_choice("schedule kind", kind, _KINDS)
    _checks.require_keys(f"{kind} schedule", fields, ("start", "end", "steps"))
    return _KINDS[kind](**fields)


def _check_fields(schedule: LinearSchedule | CosineSchedule) -> None:
    """Check a schedule's fields and make them Python's numbers: JSON has no NumPy scalars."""
    for name in ("start", "end"):
        object.__setattr__(schedule, name, _checks.require_number(name, getattr(schedule, name)))
    object.__setattr__(schedule, "steps", int(_checks.require_number("steps", schedule.steps, low=1)))
