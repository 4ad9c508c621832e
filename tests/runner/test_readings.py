"""What suites measured, in one form: equal to what stands in the committed results, and failed seeds counted."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from entroreg.benchmarks.bench import load_suite, summaries_in
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.comparison import changes
from entroreg.benchmarks.readings import Quantity, Reading, curves_of, grid_of, measurements, of_rounds, of_seed
from entroreg.benchmarks.suites import SUITES

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
Cell = dict[str, Any]
Values = list[tuple[str, str, int, float]]  # quantity, method, seed or round, value


@cache
def _text(name: str) -> str:
    return (RESULTS / f"{name}.json").read_text()


def _summary(name: str) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(_text(name))
    return summary


def _seeds(**of: Callable[[Cell], Any]) -> Callable[[Cell], Values]:
    """Values of a cell that is one seed of one method."""

    def found(cell: Cell) -> Values:
        every = [(name.replace("__", ","), cell["method"], cell["seed"], get(cell)) for name, get in of.items()]
        return [value for value in every if value[3] is not None]

    return found


def _turns(name: str, by_method: dict[str, list[float]]) -> Values:
    return [(name, method, index, value) for method, its in by_method.items() for index, value in enumerate(its)]


def _named(names: dict[str, str], read: Callable[[Cell], Values]) -> Callable[[Cell], Values]:
    return lambda cell: [(names[name], method, at, value) for name, method, at, value in read(cell)]


def _curriculum(cell: Cell) -> Values:
    ms = {
        method: [problem[solver]["seconds"] * 1000 for problem in cell["problems"]]
        for method, solver in (("bracketed", "ours"), ("trust-constr", "scipy"))
    }
    return _turns("step of the curriculum", ms)


def _mil_speed(cell: Cell) -> Values:
    if "rounds" in cell:
        ms = {method: [1000 * seconds for seconds in its] for method, its in cell["rounds"].items()}
        return _turns("step of ABMIL with AEM", ms)
    return _turns("memory above the features", {name: [bag["extra_mb"]] for name, bag in cell["bags"].items()})


def _robust_speed(cell: Cell) -> Values:
    if "rounds" in cell:
        return _turns("environment step", cell["rounds"])
    seconds = [row["protagonist_seconds"] + row["adversary_seconds"] for row in cell["rows"]]
    return _turns("QARL's iteration", {cell["method"]: seconds})


def _trust(cell: Cell) -> Values:
    if "kills" in cell:
        runs = [one for one in cell["runs"] if one["kills"]]
        shares = {
            "kills that the training went on after": [kill["resumed"] for kill in cell["kills"]],
            "kills that left a corrupt file": [True] * cell["totals"]["corrupt"]
            + [False] * (len(cell["kills"]) - cell["totals"]["corrupt"]),
            "killed runs that ended bit for bit as undisturbed": [not one["differs"] for one in runs],
        }
        return [
            (name, cell["method"], cell["seed"], 100 * statistics.fmean(found)) for name, found in shares.items()
        ]
    names = {
        "steps_per_second": ("training steps per second", 1.0),
        "pause_seconds": ("pause of a checkpoint", 1.0),
        "first_seconds": ("first checkpoint", 1.0),
        "first_bytes": ("first checkpoint writes", 1e-6),
        "next_seconds": ("next checkpoint", 1.0),
        "next_bytes": ("next checkpoint writes", 1e-6),
        "load_seconds": ("loading", 1.0),
    }
    return [
        value
        for key, by_method in cell["rounds"].items()
        for value in _turns(names[key][0], {m: [names[key][1] * x for x in its] for m, its in by_method.items()})
    ]


def _tokens(cell: Cell) -> Values:
    return [
        value
        for key, name in (("both", "forward and backward"), ("forward", "forward"))
        for value in _turns(name, {m: [1000 * turn[key] for turn in its] for m, its in cell["rounds"].items()})
    ]


_LEARNING = _named(
    {"score": "return of the greedy policy", "speed": "environment steps per second of training"},
    _seeds(score=lambda c: sum(c["returns"]) / len(c["returns"]), speed=lambda c: c["train_steps_per_second"]),
)
_ROBUST = ("grid_mean", "grid_worst", "nominal", "fresh_adversary")
_ATTACKED = "accuracy under the strongest attack"


def _in_ms(rounds: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [1e3 * seconds for seconds in turns] for name, turns in rounds.items()}


BY_HAND: dict[str, Callable[[Cell], Values]] = {
    "sac": _LEARNING,
    "sac-mujoco": _LEARNING,
    "overhead": lambda c: _turns(
        "one of it", {name: [1e3 * s for s in turns] for name, turns in c["rounds"].items()}
    ),
    "sac-speed": lambda c: (
        _turns("training step", c["rounds"]["step_ms"]) + _turns("update", c["rounds"]["update_ms"])
    ),
    "adaptation": _named(
        {"share": "share of maps with success", "ms": "decision"},
        _seeds(share=lambda c: c["success"].count(True) / len(c["success"]), ms=lambda c: c["decision_ms"]),
    ),
    "curriculum": _curriculum,
    "distillation": _named(
        {"mean": "mean of clean and attacked accuracy", "clean": "clean accuracy", "attacked": _ATTACKED},
        _seeds(
            mean=lambda c: (c["accuracy"]["clean"] + c["accuracy"]["autoattack"]) / 2,
            clean=lambda c: c["accuracy"]["clean"],
            attacked=lambda c: c["accuracy"]["autoattack"],
        ),
    ),
    "image-adaptation": _named(
        {"error": "error over the stream", "ms": "batch"},
        _seeds(error=lambda c: c["error"], ms=lambda c: c["batch_ms"]),
    ),
    "mil": _named({"score": "AUROC, out of fold"}, _seeds(score=lambda c: c["metrics"]["auroc"])),
    "mil-speed": _mil_speed,
    "rlvr": _named(
        {"one": "pass@1", "eight": "pass@8"},
        _seeds(one=lambda c: c["final"]["pass_at_1"], eight=lambda c: c["final"]["pass_at_8"]),
    ),
    "robust": _named(
        {name: f"return: {name.replace('_', ' ')}" for name in _ROBUST},
        _seeds(**{name: lambda c, name=name: c[name] for name in _ROBUST}),  # type: ignore[misc]
    ),
    "robust-speed": _robust_speed,
    "token-entropy": _tokens,
    "trust": _trust,
}


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_readings_are_what_stands_in_the_committed_results(name: str) -> None:
    summary = _summary(name)
    by_hand = {
        (cell["task"], quantity, method, at): value
        for cell in summary["cells"]
        for quantity, method, at, value in BY_HAND[summary["suite"]](cell)
    }
    found = measurements(load_suite(summary["suite"]), summary)
    read = {
        (row.task, row.quantity.name, row.method, at): value for row in found for at, value in row.values.items()
    }
    assert read == pytest.approx(by_hand, rel=1e-9)
    assert len(read) >= len(summary["cells"])
    assert all(row.expected == len(row.values) for row in found)  # of these, none failed
    keys = [(row.task, row.quantity.name, row.method) for row in found]
    assert len(keys) == len(set(keys))
    tasks = list(dict.fromkeys(task for task, *_ in keys))
    assert tasks == list(dict.fromkeys(cell["task"] for cell in summary["cells"]))


def test_which_values_are_better() -> None:
    lower = set()
    for name in sorted(path.stem for path in RESULTS.glob("*.json")):
        summary = _summary(name)
        for row in measurements(load_suite(summary["suite"]), summary):
            lower |= {row.quantity.name} if row.quantity.better == "lower" else set()
            assert (row.quantity.over == "round") == (
                "speed" in name
                or name.startswith(("curriculum", "overhead", "token"))
                or (name.startswith("trust") and "transitions" in row.task)
            )
            assert row.quantity.is_time == (row.quantity.unit in ("ms", "us", "s", "1/s"))
    assert lower == {
        "one of it",
        "training step",
        "update",
        "decision",
        "step of the curriculum",
        "error over the stream",
        "batch",
        "step of ABMIL with AEM",
        "memory above the features",
        "environment step",
        "QARL's iteration",
        "forward and backward",
        "forward",
        "first checkpoint",
        "first checkpoint writes",
        "next checkpoint",
        "next checkpoint writes",
        "loading",
        "pause of a checkpoint",
        "kills that left a corrupt file",
    }


def _lose(summary: dict[str, Any], which: Callable[[Cell], bool]) -> dict[str, Any]:
    """Make cells of a summary ones that failed."""
    lost = [cell for cell in summary["cells"] if which(cell)]
    assert lost
    failed = [{name: cell.get(name, 0) for name in ("task", "method", "seed")} for cell in lost]
    kept = [cell for cell in summary["cells"] if not which(cell)]
    return {**summary, "cells": kept, "failed": [{**cell, "folder": "f", "error": "e"} for cell in failed]}


def test_failed_seeds_are_expected() -> None:
    whole = _summary("sac_small")
    seeds = {cell["seed"] for cell in whole["cells"]}
    task = whole["cells"][0]["task"]
    summary = _lose(whole, lambda c: c["task"] == task and (c["method"] == "sb3-sac" or c["seed"] == 1))
    rows = {(row.task, row.method, row.quantity.name): row for row in measurements(load_suite("sac"), summary)}
    assert len(rows) == len(measurements(load_suite("sac"), whole))
    for quantity in ("return of the greedy policy", "environment steps per second of training"):
        lost = rows[task, "sb3-sac", quantity]
        assert (lost.values, lost.expected, lost.count) == ({}, len(seeds), f"0 of {len(seeds)} seeds")
        some = rows[task, "entroreg-sac", quantity]
        assert some.values.keys() == seeds - {1}
        assert some.count == f"{len(seeds) - 1} of {len(seeds)} seeds"
    other = [row for (at, *_), row in rows.items() if at != task]
    assert other
    assert {row.count for row in other} == {f"{len(seeds)} of {len(seeds)} seeds"}


def test_a_task_of_which_every_cell_failed_has_its_rows() -> None:
    whole = _summary("sac_small")
    task = whole["cells"][-1]["task"]
    rows = measurements(load_suite("sac"), _lose(whole, lambda c: c["task"] == task))
    assert {(row.method, row.count) for row in rows if row.task == task} == {
        ("entroreg-discrete-sac", "0 of 5 seeds"),
        ("sb3-dqn", "0 of 5 seeds"),
    }


def test_a_failed_cell_in_which_methods_take_turns_leaves_no_row() -> None:
    whole = _summary("sac_speed_small")
    task = whole["cells"][0]["task"]
    rows = measurements(load_suite("sac-speed"), _lose(whole, lambda c: c["task"] == task))
    assert rows
    assert task not in {row.task for row in rows}


def test_a_suite_that_says_nothing_has_scores_and_a_curve() -> None:
    suite: Any = SimpleNamespace()
    cells = [{"task": "T", "method": "m", "seed": seed, "score": 2 * seed, "other": 1} for seed in (3, 1)]
    (row,) = measurements(suite, {"cells": cells, "failed": [{"task": "T", "method": "m", "seed": 0}]})
    assert (row.task, row.method, row.values, row.expected) == ("T", "m", {3: 6.0, 1: 2.0}, 3)
    assert row.quantity == Quantity("score", "", "higher", "seed", is_time=False)
    assert row.count == "2 of 3 seeds"
    assert curves_of(suite, {**cells[0], "curve": [[1, 2.0], [3, 4.0]]}) == {"return": [[1, 2.0], [3, 4.0]]}
    assert curves_of(suite, cells[0]) == {}
    assert curves_of(suite, {**cells[0], "curve": []}) == {}
    assert grid_of(suite, cells[0]) is None


def test_curves_and_grids_of_committed_results() -> None:
    learned = _summary("sac_mujoco_small")["cells"][0]
    assert curves_of(load_suite("sac-mujoco"), learned) == {"return": learned["curve"]}
    learned["curves"] = {"entropy": [[1.0, 0.5]], "alpha": []}
    both = {"return": learned["curve"], "entropy": [[1.0, 0.5]]}
    assert curves_of(load_suite("sac-mujoco"), learned) == both
    answered = _summary("rlvr_small")["cells"][0]
    curves = curves_of(load_suite("rlvr"), answered)
    assert curves.keys() == {"reward", "entropy of the policy (nats)"}
    assert statistics.fmean(y for _, y in curves["reward"]) == statistics.fmean(
        r["reward"] for r in answered["curve"]
    )
    cells = _summary("robust_small_published_force")["cells"]
    assert all(grid_of(load_suite("robust"), cell) == cell["grid"] for cell in cells)
    steps = {cell["method"]: curves_of(load_suite("robust"), cell) for cell in cells}
    assert steps["sac"] == {}
    (shape,) = next(cell for cell in cells if cell["method"] == "qarl")["curriculum"][:1]
    assert steps["qarl"]["curriculum's shape k"][0][0] == 0
    assert shape["shape"] > 0


def test_readings_of_a_cell() -> None:
    time = Quantity("t", "ms", "lower", "round", is_time=True)
    assert of_rounds(time, {"a": [1, 2], "b": []}, 1e3) == [
        Reading(time, "a", {0: 1000.0, 1: 2000.0}),
        Reading(time, "b", {}),
    ]
    x, y = Quantity("x"), Quantity("y")
    assert of_seed({"method": "m", "seed": 4}, {x: 0, y: None}) == [Reading(x, "m", {4: 0.0})]


def test_every_suite_is_read_here() -> None:
    committed = {_summary(path.stem)["suite"] for path in RESULTS.glob("*.json")}
    assert committed == BY_HAND.keys() & committed
    assert BY_HAND.keys() <= SUITES.keys()


def test_rounds_of_a_cell_that_failed_are_missed() -> None:
    done = {"task": "T", "seed": 0, "rounds": {"step_ms": {"m": [1.0] * 3}, "update_ms": {}}}
    failed = [{"task": "T", "method": "in-turn", "seed": 1}, {"task": "other", "method": "in-turn", "seed": 0}]
    (row,) = measurements(load_suite("sac-speed"), {"cells": [done], "failed": failed})
    assert row.count == "3 of 6 rounds"


def test_rounds_of_several_seeds_are_all_kept() -> None:
    cells = [
        {"task": "T", "seed": seed, "rounds": {"step_ms": {"m": [seed + 1.0] * 3}, "update_ms": {}}}
        for seed in (0, 1)
    ]
    (row,) = measurements(load_suite("sac-speed"), {"cells": cells, "failed": []})
    assert sorted(row.values.values()) == [1.0] * 3 + [2.0] * 3


# --- compared with themselves


def test_committed_results_do_not_differ_from_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(RESULTS), str(RESULTS), "--fail-on", "regression", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) > 300
    assert {change["verdict"] for change in found} == {"no difference shown"}
    assert all(change["a"] == change["b"] and change["seeds"][0] == change["seeds"][1] for change in found)
    assert {change["change"] for change in found} == {0.0, 1.0}
    assert all(math.isfinite(change["a"]) for change in found)


def test_no_committed_result_is_left_out() -> None:
    summaries = summaries_in(RESULTS)
    rows = sum(len(measurements(load_suite(one["suite"]), one)) for one in summaries.values())
    assert len(changes(summaries, summaries)) == rows
