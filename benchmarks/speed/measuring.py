"""Rounds of measurement, and the numbers that follow from them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

REFERENCE = "entroreg"
FLOOR = "gemms"
_PAUSE = 0.3  # seconds before a turn: OpenMP's threads spin for up to 0.2 s after their last work


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often."""

    methods: tuple[str, ...]
    """Methods in the order of their turns."""
    warmup: int
    """Updates of each method before the first round."""
    rounds: int
    """Rounds in which every method has a turn."""
    steps: int
    """Training steps of a turn."""
    updates: int
    """Updates of a turn in the rounds that time them alone."""
    stage_rounds: int
    """Rounds with timers in the methods' parts, of ``steps`` steps."""


class Asked(Protocol):
    """What is asked in turn: a worker."""

    actions: list[str]
    start_seconds: float

    def ask(self, action: str, count: int) -> Any:
        """Return the answer to an action."""
        ...


def measure(workers: Mapping[str, Asked], plan: Plan) -> dict[str, Any]:
    """Ask all workers in turn and return the rounds with what follows from them.

    Args:
        workers: by method, that of the matrix products included.
        plan: how often.

    Returns:
        ``plan``; ``rounds``: for ``step_ms``, ``update_ms`` and ``stage_ms`` the milliseconds of each method and
        round; ``methods``: see `figures`, with what each worker reports of itself.
    """
    steps = ask_in_turn(workers, "steps", plan.steps, plan.rounds)
    updates = ask_in_turn(workers, "updates", plan.updates, plan.rounds)
    stages = ask_in_turn(workers, "stages", plan.steps, plan.stage_rounds)
    rounds: dict[str, dict[str, list[Any]]] = {
        "step_ms": {name: [_ms(s, plan.steps) for s in turns] for name, turns in steps.items()},
        "update_ms": {name: [_ms(s, plan.updates) for s in turns] for name, turns in updates.items()},
        "stage_ms": {
            name: [{stage: _ms(s, plan.steps) for stage, s in turn.items()} for turn in turns]
            for name, turns in stages.items()
        },
    }
    reports = {
        name: {"start_seconds": round(worker.start_seconds, 1), **worker.ask("report", 0)}
        for name, worker in workers.items()
    }
    methods = {name: {**row, **reports[name]} for name, row in figures(rounds).items()}
    return {"plan": asdict(plan), "rounds": rounds, "methods": methods}


def ask_in_turn(workers: Mapping[str, Asked], action: str, count: int, rounds: int) -> dict[str, list[Any]]:
    """Return the answers of all workers that know an action: in each round, one after the other."""
    answers: dict[str, list[Any]] = {name: [] for name, worker in workers.items() if action in worker.actions}
    for _ in range(rounds):
        for name, turns in answers.items():
            time.sleep(_PAUSE)
            turns.append(workers[name].ask(action, count))
    return answers


def figures(rounds: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, dict[str, Any]]:
    """Return what follows from the rounds, by method.

    Args:
        rounds: ``step_ms``, ``update_ms`` and ``stage_ms``, by method a value for each round.

    Returns:
        Where it was measured: ``step_ms`` and ``update_ms`` (see `spread`), ``steps_per_second``,
        ``time_over_entroreg`` (of a whole step, round by round), ``update_over_gemms`` (of an update alone, round
        by round), ``stage_ms`` (the median of each stage).
    """
    found: dict[str, dict[str, Any]] = {}
    for name, values in rounds["step_ms"].items():
        row = found.setdefault(name, {})
        row["step_ms"] = spread(values)
        row["steps_per_second"] = 1e3 / row["step_ms"]["median"]
        if name != REFERENCE and REFERENCE in rounds["step_ms"]:
            row["time_over_entroreg"] = spread(_ratios(values, rounds["step_ms"][REFERENCE]))
    for name, values in rounds["update_ms"].items():
        row = found.setdefault(name, {})
        row["update_ms"] = spread(values)
        if name != FLOOR:
            row["update_over_gemms"] = spread(_ratios(values, rounds["update_ms"][FLOOR]))
    for name, turns in rounds["stage_ms"].items():
        seen = {stage: [turn[stage] for turn in turns] for stage in turns[0]}
        found[name]["stage_ms"] = {
            stage: None if None in values else float(np.median(values)) for stage, values in seen.items()
        }
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the quartiles and the ends of some values."""
    points = zip(("min", "q1", "median", "q3", "max"), np.percentile(values, (0, 25, 50, 75, 100)), strict=True)
    return {name: float(value) for name, value in points}


def _ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value / other for value, other in zip(values, others, strict=True)]


def _ms(seconds: float | None, count: int) -> float | None:
    return None if seconds is None else 1e3 * seconds / count
