"""Guards of a training: numbers that are not finite end it, entropy that collapses or alpha that runs away is said.

Every message names the quantity and when it was, so that it can be looked up in the log.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from entroreg import _checks

__all__ = [
    "CollapseWatch",
    "EntropyCollapseWarning",
    "EntropyWarning",
    "RunawayWatch",
    "TemperatureRunawayWarning",
    "categorical_floor",
    "gaussian_floor",
    "require_finite",
]

READINGS = 10
GROWTH = 100.0
_AT_MAXIMUM = 0.999  # share of the maximum: log alpha is clamped in float32


class EntropyWarning(UserWarning):
    """Entropy or its temperature is going where a training does not come back from by itself."""


class EntropyCollapseWarning(EntropyWarning):
    """Entropy has stayed below its floor."""


class TemperatureRunawayWarning(EntropyWarning):
    """A learned temperature grows, or stands at its maximum, and entropy does not answer."""


def require_finite(name: str, values: Tensor | NDArray[Any] | float, *, at: str, advice: str) -> None:
    """Refuse NaN and infinity.

    Args:
        name: of the quantity.
        values: any shape; what is not floating is finite. Reading a tensor waits for its device.
        at: when it was, such as "update 53".
        advice: what to do.

    Raises:
        FloatingPointError: a value is not finite; the first in the order of their indices is named.

    Example:
        >>> require_finite("reward", np.array([0.0, np.nan]), at="step 7", advice="look at the environment")
        Traceback (most recent call last):
        ...
        FloatingPointError: reward became nan in element (1,) at step 7: look at the environment
    """
    if isinstance(values, Tensor):
        values = values.detach()
        if not values.is_floating_point() or bool(values.isfinite().all()):
            return
        bad = np.argwhere(~values.isfinite().cpu().numpy())
    else:
        values = np.asarray(values)
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        bad = np.argwhere(~np.isfinite(values))
    index = tuple(int(place) for place in bad[0])
    where = f" in element {index}" if index else ""
    raise FloatingPointError(f"{name} became {float(values[index])}{where} at {at}: {advice}")


def categorical_floor(highest: float, target: float | None = None) -> float:
    r"""Return the entropy below which a categorical policy counts as collapsed, in nats.

    Without a target $0.05 \log A$: of two actions one has 99.4 %. With a target $0.15 \log A$ (98 %), or
    half of the target where that is less. A target of 0 or less holds nothing, and entropy does not turn
    round: $0.25 \log A$ (96 %).

    Args:
        highest: log A, above 0.
        target: that a controller holds entropy above, or None.

    Example:
        >>> round(categorical_floor(0.693, target=0.485), 3)
        0.104
    """
    if target is None:
        return 0.05 * highest
    return min(0.15 * highest, target / 2.0) if target > 0.0 else 0.25 * highest


def gaussian_floor(dimensions: int, target: float | None = None) -> float:
    r"""Return the entropy below which a tanh-Gaussian policy counts as collapsed, in nats.

    With a target $\bar H - 3 d$: each standard deviation is about a twentieth of what the target asks for. Without
    one $-15 d$, which is near the smallest standard deviation that policies have, exp(-20); a policy that acts at
    the bounds of its actions only does not come there.

    Args:
        dimensions: d, of the actions.
        target: that a controller holds entropy above, or None.

    Example:
        >>> gaussian_floor(6, target=-6.0)
        -24.0
    """
    return -15.0 * dimensions if target is None else target - 3.0 * dimensions


class CollapseWatch:
    """Says once that entropy has stayed below its floor; it changes nothing in the training.

    Args:
        quantity: whose entropy, for the message.
        unit: of the entropy.
        readings: consecutive readings below the floor until it is said.

    Raises:
        TypeError: readings is no integer.
        ValueError: readings below 1.

    Example:
        >>> watch = CollapseWatch(readings=2)
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     for step in range(4):
        ...         watch.update(0.01, floor=0.1, at=f"step {step}", advice="raise the entropy bonus")
        >>> str(said[0].message)
        'policy entropy has collapsed: 0.01 nats at step 1, and below 0.1 for 2 readings: raise the entropy bonus'
    """

    def __init__(self, quantity: str = "policy entropy", unit: str = "nats", readings: int = READINGS) -> None:
        self._quantity, self._unit = quantity, unit
        self._readings = _checks.require_count("readings", readings)
        self._below = 0
        self._said = False

    def update(self, entropy: float, *, floor: float, at: str, advice: str) -> None:
        """Take a reading, once in a logging interval.

        Args:
            entropy: finite.
            floor: of this reading, in the same unit.
            at: when it was.
            advice: what to do about a collapse.

        Raises:
            ValueError: entropy or floor not finite.

        Warns:
            EntropyCollapseWarning: the first time that the last readings are all below their floors.
        """
        low = _checks.require_number("entropy", entropy) < _checks.require_number("floor", floor)
        self._below = self._below + 1 if low else 0
        if self._below < self._readings or self._said:
            return
        self._said = True
        warnings.warn(
            f"{self._quantity} has collapsed: {entropy:.3g} {self._unit} at {at}, and below {floor:.3g} for "
            f"{self._readings} readings: {advice}",
            EntropyCollapseWarning,
            stacklevel=2,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next reading depends on, as plain data."""
        return {"below": self._below, "said": self._said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        _checks.require_keys("state of CollapseWatch", state, ("below", "said"))
        self._below, self._said = int(state["below"]), bool(state["said"])


class RunawayWatch:
    """Says once that a learned temperature runs away: it grows and grows, and entropy does not come to its target.

    That is growth by a factor of 100 over at least ``readings`` readings without a fall, while the bound is still
    violated by at least half of its largest violation meanwhile; or ``readings`` readings at the maximum, with the
    bound violated.

    Args:
        maximum: of the temperature, or None.
        readings: see above.
        growth: see above.

    Raises:
        TypeError: an argument that is no number.
        ValueError: readings below 1, maximum not above 0, or growth not above 1.

    Example:
        >>> watch = RunawayWatch(readings=3)
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     for step in range(8):
        ...         watch.update(10.0 ** (step - 2), violation=0.4, at=f"step {step}")
        >>> str(said[0].message)[:83]
        'temperature runs away: 10 at step 3, 1e+03 times what it was 3 readings before, and'
    """

    def __init__(self, maximum: float | None = None, readings: int = READINGS, growth: float = GROWTH) -> None:
        self._maximum = None if maximum is None else _checks.require_positive("maximum", maximum)
        self._readings = _checks.require_count("readings", readings)
        self._growth = _checks.require_number("growth", growth, low=1.0)
        self._rising = 0  # readings since the temperature last fell
        self._first = self._last = self._largest = 0.0
        self._at_maximum = 0
        self._said = False

    def update(self, temperature: float, *, violation: float, at: str) -> None:
        """Take a reading, once in a logging interval.

        Args:
            temperature: at least 0.
            violation: nats by which entropy is on the wrong side of its target; negative on the right side.
            at: when it was.

        Raises:
            ValueError: a number that is not finite, or a negative temperature.

        Warns:
            TemperatureRunawayWarning: the first time that it runs away.
        """
        temperature = _checks.require_number("temperature", temperature, low=0.0)
        violation = _checks.require_number("violation", violation)
        self._count(temperature, violation)
        found = self._found(temperature, violation, at)
        if found is None or self._said:
            return
        self._said = True
        warnings.warn(found, TemperatureRunawayWarning, stacklevel=2)

    def _count(self, temperature: float, violation: float) -> None:
        if temperature > self._last > 0.0:
            self._rising += 1
            self._largest = max(self._largest, violation)
        else:
            self._rising, self._first, self._largest = 0, temperature, violation
        self._last = temperature
        held = self._maximum is not None and temperature >= _AT_MAXIMUM * self._maximum
        self._at_maximum = self._at_maximum + 1 if held and violation > 0.0 else 0

    def _found(self, temperature: float, violation: float, at: str) -> str | None:
        if self._at_maximum >= self._readings:
            return (
                f"temperature has been at its maximum, {self._maximum:g}, for {self._readings} readings up to "
                f"{at}, and entropy is still {violation:.3g} nats from its target: raise the maximum, or choose a "
                "target that is easier to reach"
            )
        grown = self._rising >= self._readings and temperature >= self._growth * self._first
        if not grown or violation <= 0.0 or violation < self._largest / 2.0:
            return None
        return (
            f"temperature runs away: {temperature:.3g} at {at}, {temperature / self._first:.3g} times what it was "
            f"{self._rising} readings before, and entropy is still {violation:.3g} nats from its target, which may "
            "be out of reach: choose a target that is easier to reach, or give the temperature a maximum"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next reading depends on, as plain data."""
        return {name: getattr(self, f"_{name}") for name in _RUNAWAY_STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        _checks.require_keys("state of RunawayWatch", state, _RUNAWAY_STATE)
        for name, kind in _RUNAWAY_STATE.items():
            setattr(self, f"_{name}", kind(state[name]))


_RUNAWAY_STATE = {
    "rising": int,
    "first": float,
    "last": float,
    "largest": float,
    "at_maximum": int,
    "said": bool,
}
