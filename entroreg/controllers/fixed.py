"""Coefficients that follow no measurement: constant, or a function of the update count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.schedules import Schedule


class Fixed:
    """A constant coefficient.

    Args:
        value: at least 0.

    Raises:
        TypeError: value not a number.
        ValueError: value negative or not finite.

    Example:
        >>> Fixed(0.2).value
        tensor(0.2000)
    """

    def __init__(self, value: float) -> None:
        self._value = torch.tensor(_checks.require_number("value", value, low=0.0), dtype=torch.float32)

    @property
    def value(self) -> Tensor:
        """The coefficient, scalar float32, detached."""
        return self._value

    def update(self, entropy: Tensor) -> dict[str, Tensor]:
        """Return the metrics; a constant has nothing to learn."""
        return {"alpha": self._value, "entropy": entropy.detach().mean()}

    def to(self, device: torch.device | str) -> Fixed:
        """Move the coefficient to a device."""
        self._value = self._value.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the coefficient."""
        return {"value": self._value.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the coefficient."""
        _checks.require_keys("state of Fixed", state, ("value",))
        self._value = torch.as_tensor(state["value"], dtype=torch.float32).to(self._value.device)


class Scheduled:
    """A coefficient that is a function of the number of updates done.

    Args:
        schedule: from the update count (0, 1, ...) to a number of at least 0; see ``entroreg.schedules``.

    Raises:
        TypeError: schedule not callable, or its value not a number.
        ValueError: its value negative or not finite, at construction or later.

    Example:
        >>> from entroreg.schedules import LinearSchedule
        >>> alpha = Scheduled(LinearSchedule(1.0, 0.0, steps=4))
        >>> _ = alpha.update(torch.tensor(0.0))
        >>> alpha.value
        tensor(0.7500)
    """

    def __init__(self, schedule: Schedule) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be callable, got {type(schedule).__name__}: use Fixed for a constant")
        self.schedule = schedule
        self.step = 0
        self._device = torch.device("cpu")
        self._set_value()

    @property
    def value(self) -> Tensor:
        """The coefficient at the present update count, scalar float32, detached."""
        return self._value

    def update(self, entropy: Tensor) -> dict[str, Tensor]:
        """Count one update and return the metrics, with the coefficient that was in force before it."""
        metrics = {"alpha": self._value, "entropy": entropy.detach().mean()}
        self.step += 1
        self._set_value()
        return metrics

    def to(self, device: torch.device | str) -> Scheduled:
        """Move the coefficient to a device."""
        self._device = torch.device(device)
        self._set_value()
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the update count; the schedule is code and is given again at construction."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the update count."""
        _checks.require_keys("state of Scheduled", state, ("step",))
        self.step = int(state["step"])
        self._set_value()

    def _set_value(self) -> None:
        value = _checks.require_number(f"schedule({self.step})", self.schedule(self.step), low=0.0)
        self._value = torch.tensor(value, dtype=torch.float32, device=self._device)
