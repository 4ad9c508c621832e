"""What the cells of any suite measured, in one form: of each task, method and quantity, values by seed or round.

A suite says what its results hold with three functions of one result, each of which may be missing:
``readings(cell)`` (default: the score), ``curves(cell)`` (default: ``curve`` as return over steps) and
``grid(cell)`` (default: none).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from entroreg.benchmarks.cells import Suite

__all__ = [
    "SCORE",
    "Measurement",
    "Quantity",
    "Reading",
    "curves_of",
    "grid_of",
    "measurements",
    "of_rounds",
    "of_seed",
]

Curve = Sequence[Sequence[float]]
"""Pairs of [x, y]."""


@dataclass(frozen=True)
class Quantity:
    """Something that is measured."""

    name: str
    """Such as ``return`` or ``training step``."""
    unit: str = ""
    """Such as ``ms``; empty where it has none."""
    better: Literal["higher", "lower"] = "higher"
    """Which values are better."""
    over: Literal["seed", "round"] = "seed"
    """What the values of one method repeat over: rounds are those of one cell, in which methods take turns."""
    is_time: bool = False
    """Whether methods are compared by their ratio, not by their difference."""


SCORE = Quantity("score")


class Reading(NamedTuple):
    """What one cell measured of one quantity."""

    quantity: Quantity
    method: str
    """Of the cell, or one of those that take turns in it."""
    values: Mapping[int, float]
    """By seed or by round."""


@dataclass(frozen=True)
class Measurement:
    """A quantity of one method on one task."""

    task: str
    method: str
    quantity: Quantity
    expected: int
    """Values that there should be, one for each seed or round."""
    values: dict[int, float] = field(default_factory=dict)
    """Those that there are, by seed or by round."""

    @property
    def count(self) -> str:
        """How many there are, such as ``4 of 5 seeds``."""
        return f"{len(self.values)} of {self.expected} {self.quantity.over}s"


def of_seed(cell: Mapping[str, Any], values: Mapping[Quantity, float | None]) -> list[Reading]:
    """Return the readings of a cell that is one seed of one method; None stands for a quantity without a value.

    Args:
        cell: a result with method and seed.
        values: what was measured.
    """
    return [
        Reading(quantity, cell["method"], {cell["seed"]: float(value)})
        for quantity, value in values.items()
        if value is not None
    ]


def of_rounds(quantity: Quantity, rounds: Mapping[str, Sequence[float]], scale: float = 1.0) -> list[Reading]:
    """Return the readings of a cell in which methods take turns.

    Args:
        quantity: what is measured.
        rounds: by method, a value for each round.
        scale: by which values are multiplied, such as 1000 from seconds to milliseconds.
    """
    return [
        Reading(quantity, method, {index: scale * float(value) for index, value in enumerate(turns)})
        for method, turns in rounds.items()
    ]


def measurements(suite: Suite, summary: Mapping[str, Any]) -> list[Measurement]:
    """Return all that the cells of a summary measured.

    A seed that failed is missing from the values and counts in ``expected``.

    Args:
        suite: the summary's.
        summary: with cells and failed, as ``bench.run_suite`` returns it.

    Returns:
        Measurements in the order of the cells: task, then quantity, then method.
    """
    read = getattr(suite, "readings", _score)
    values: dict[tuple[str, Quantity, str], dict[int, float]] = {}
    for cell in summary["cells"]:
        for quantity, method, found in read(cell):
            its = values.setdefault((cell["task"], quantity, method), {})
            further = len(its) if quantity.over == "round" else 0  # those of a second cell follow
            its.update({further + repeat: value for repeat, value in found.items()})
    cells = Counter(cell["task"] for cell in summary["cells"])
    missing: Counter[tuple[str, str]] = Counter()
    for cell in summary["failed"]:
        missing[cell["task"], cell["method"]] += 1
    tasks = list(dict.fromkeys([task for task, *_ in values] + [task for task, _ in missing]))
    quantities = list(dict.fromkeys(quantity for _, quantity, _ in values))
    found = []
    for task in tasks:
        for quantity in quantities:
            methods = [method for at, of, method in values if (at, of) == (task, quantity)]
            if quantity.over == "seed":  # a method whose seeds all failed has a row too
                methods += [method for at, method in missing if at == task and method not in methods]
            for method in methods:
                its = values.get((task, quantity, method), {})
                lost = missing[task, method]
                if quantity.over == "round":  # as many of each cell, whichever method the cell is named by
                    lost = sum(count for (at, _), count in missing.items() if at == task) * len(its) // cells[task]
                found.append(Measurement(task, method, quantity, len(its) + lost, its))
    return found


def curves_of(suite: Suite, cell: Mapping[str, Any]) -> dict[str, Curve]:
    """Return the curves of a cell by name, such as return, entropy and alpha over steps."""
    read = getattr(suite, "curves", _curve)
    return {name: curve for name, curve in read(cell).items() if len(curve)}


def grid_of(suite: Suite, cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the grid of returns of a cell, with parameters, values and returns, None if it has none."""
    read = getattr(suite, "grid", None)
    return None if read is None else read(cell)


def _score(cell: Mapping[str, Any]) -> list[Reading]:
    return of_seed(cell, {SCORE: cell["score"]})


def _curve(cell: Mapping[str, Any]) -> dict[str, Curve]:
    return {"return": cell["curve"]} if "curve" in cell else {}
