"""The complete state of a training as leaves by path, and how far two of them are apart."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Leaves = dict[str, Any]

# All that may differ, because it is a time of day: of a Monitor, of the episodes that it has seen, in the log.
WALL_CLOCK = re.compile(r"\.t_start$|\.episode_times\.|ep_info_buffer\[\d+\]\.t$|name_to_\w+(\.time/|#$)")

_LONG = 100


def leaves(state: Any, tables: Mapping[str, np.ndarray]) -> Leaves:
    """Return copies of the leaves of a state by their paths."""
    found = {path: copied(value) for path, value in walk(state) if not WALL_CLOCK.search(path)}
    return found | {f"rows of {name}": rows.copy() for name, rows in tables.items()}


def copied(leaf: Any) -> Any:
    """Return a leaf that does not change any more; tensors as arrays."""
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().cpu().numpy().copy()
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a nested state with their paths; an environment's attributes go by their names."""
    parts = children(value)
    if parts is None:
        yield path, value
        return
    kind = "mapping" if isinstance(value, Mapping) else type(value).__name__
    yield f"{path}#", (kind, len(parts), getattr(value, "maxlen", None))
    for name, item in parts:
        yield from walk(item, f"{path}{name}")


def children(value: Any) -> list[tuple[str, Any]] | None:
    """Return the parts of a node by name, None for a leaf."""
    if isinstance(value, Mapping):
        return [(f".{name}", item) for name, item in value.items()]
    if isinstance(value, tuple) and len(value) > _LONG:  # of Python's generator
        return None
    if isinstance(value, list | tuple | deque):
        pairs = all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in value)
        if value and pairs and isinstance(value, list):  # items of a dict
            return [(f".{name}", item) for name, item in value]
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return None


def same(first: Any, second: Any) -> bool:
    """Whether two leaves, or two nested states, are the same to the last bit."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return same(first.numpy(), second.numpy())
    if isinstance(first, np.ndarray | np.generic):
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    one, other = children(first), children(second)
    if one is None or other is None:
        return bool(first == second or (first != first and second != second))
    if isinstance(first, Mapping):  # JSON sorts it
        one, other = sorted(one), sorted(other)
    return len(one) == len(other) and all(
        name == its and same(item, that) for (name, item), (its, that) in zip(one, other, strict=True)
    )


def distance(first: Any, second: Any) -> float:
    """Return the largest absolute difference of two leaves, infinity where they are not numbers of one shape."""
    if same(first, second):
        return 0.0
    try:
        one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        gap = float(np.abs(one - other).max()) if one.shape == other.shape else np.inf
    except (TypeError, ValueError):
        return float("inf")
    return gap if gap > 0.0 else float("inf")  # NaN, or numbers that differ in type or sign alone


def differing(first: Leaves, second: Leaves) -> dict[str, float]:
    """Return the distances of the leaves that are not the same in both, by path."""
    found = {path: distance(first[path], second[path]) for path in first.keys() & second.keys()}
    found |= {path: float("inf") for path in first.keys() ^ second.keys()}
    return {path: gap for path, gap in found.items() if gap > 0.0}


@dataclass
class Trace:
    """What was seen of a training: its state after each rollout, a row for each episode, what was logged."""

    states: dict[int, Leaves] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    dumps: list[dict[str, Any]] = field(default_factory=list)

    def since(self, step: int) -> Trace:
        """Return what was seen from a step on."""
        states = {at: state for at, state in self.states.items() if at >= step}
        rows, dumps = ([one for one in seen if one["step"] > step] for seen in (self.rows, self.dumps))
        return Trace(states, rows, dumps)


@dataclass
class Comparison:
    """How far a training that went on is from the undisturbed one."""

    steps: int
    leaves: int
    differing: dict[str, float]
    """The largest distance of each leaf that ever differed, by path."""

    @property
    def largest(self) -> float:
        """The largest absolute difference of all."""
        return max(self.differing.values(), default=0.0)


def compare(undisturbed: Trace, resumed: Trace, step: int) -> Comparison:
    """Compare all that two trainings have seen from a step on."""
    expected = undisturbed.since(step)
    found: dict[str, float] = {}
    for at in expected.states.keys() | resumed.states.keys():
        gaps = differing(expected.states.get(at, {}), resumed.states.get(at, {}))
        found |= {path: max(gap, found.get(path, 0.0)) for path, gap in gaps.items()}
    for name in ("rows", "dumps"):
        if not same(getattr(expected, name), getattr(resumed, name)):
            found[name] = float("inf")
    return Comparison(len(expected.states), sum(map(len, expected.states.values())), found)
