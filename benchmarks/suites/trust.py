"""Trainings killed at random instants, ours and Stable-Baselines3's, and what checkpoints cost."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, failures_as_text, gather_results, write_result
from entroreg.benchmarks.readings import Quantity, Reading, of_rounds, of_seed
from entroreg.benchmarks.trust.kills import KillPlan, killed_runs

NAME = "trust"
MOST_JOBS = 1  # cells that ran at once would slow each other
BOUNDS = ("no-checkpoint",)  # no rival: the training alone
KILLED = ("sac", "qarl", "mil")
KILLS = {"smoke": 2, "small": 70, "paper": 70}  # of each method and task
_KILLS_PER_RUN = 8.0
_AIMED = 0.5
COST, SLOWDOWN = "checkpoint-of-{}-transitions", "HalfCheetah-v5-with-{}-transitions"
TRANSITIONS = {"smoke": 10_000, "small": 1_000_000, "paper": 1_000_000}
_BETWEEN = {"smoke": 200, "small": 5_000, "paper": 5_000}  # about what a minute of training adds
ROUNDS = {"smoke": 2, "small": 7, "paper": 7}
WINDOWS = 5  # with a checkpoint, and as many without, of a minute each
_COLUMNS = {
    "kills": "kills",
    "inside a save": "inside_save",
    "resumed": "resumed",
    "corrupt": "corrupt",
    "mismatched": "mismatched",
    "begun anew": "begun_anew",
    "runs": "runs",
    "bit-identical": "identical",
}

RESUMED = Quantity("kills that the training went on after", "of 100")
CORRUPT = Quantity("kills that left a corrupt file", "of 100", "lower")
IDENTICAL = Quantity("killed runs that ended bit for bit as undisturbed", "of 100")
RATE = Quantity("training steps per second", "1/s", over="round", is_time=True)
PAUSE = Quantity("pause of a checkpoint", "s", "lower", "round", is_time=True)
COSTS = {
    "first_seconds": Quantity("first checkpoint", "s", "lower", "round", is_time=True),
    "first_bytes": Quantity("first checkpoint writes", "MB", "lower", "round"),
    "next_seconds": Quantity("next checkpoint", "s", "lower", "round", is_time=True),
    "next_bytes": Quantity("next checkpoint writes", "MB", "lower", "round"),
    "load_seconds": Quantity("loading", "s", "lower", "round", is_time=True),
}

summarise = gather_results


def cells(preset: str) -> list[Cell]:
    """Return a cell for each training that is killed, and two for costs."""
    size = f"{TRANSITIONS[preset]:_}"
    cost = Cell(NAME, preset, COST.format(size), "in-turn", 0)
    if preset == "smoke":
        return [*(Cell(NAME, preset, "sac", method, 0) for method in ("entroreg", "sb3")), cost]
    killed = [*((task, "entroreg") for task in KILLED), ("sac", "sb3"), ("sac", "sb3-callback")]
    return [
        *(Cell(NAME, preset, task, method, 0) for task, method in killed),
        cost,
        Cell(NAME, preset, SLOWDOWN.format(size), "in-turn", 0),
    ]


def run(cell: Cell, folder: Path) -> None:
    """Kill or measure, and write the result."""
    work = folder / "work"
    if work.exists():  # of a try that was stopped: it begins anew
        shutil.rmtree(work)
    work.mkdir()
    result = _killed(cell, work) if cell.task in KILLED else _costs(cell, work)
    write_result(folder, result)


def _killed(cell: Cell, folder: Path) -> dict[str, Any]:
    from entroreg.benchmarks.trust.children import start_forking
    from entroreg.benchmarks.trust.imports import IMPORTS

    start_forking(IMPORTS[cell.task])  # first: it imports while this process does
    from entroreg.benchmarks.trust.stock import of_stock
    from entroreg.benchmarks.trust.trainings import of_command

    ours = cell.method == "entroreg"
    training = of_command(cell.task, cell.preset, folder) if ours else of_stock(cell.method, cell.preset)
    plan = KillPlan(KILLS[cell.preset], _KILLS_PER_RUN, _AIMED)
    found = killed_runs(training, plan, folder, np.random.default_rng([cell.seed, KILLED.index(cell.task)]))
    return {**found, "totals": totals_of(found)}


def totals_of(found: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of what ``killed_runs`` found."""
    kills, runs = found["kills"], [one for one in found["runs"] if one["kills"]]
    return {
        "kills": len(kills),
        "inside_save": sum(kill["inside_save"] for kill in kills),
        "resumed": sum(kill["resumed"] for kill in kills),
        "corrupt": sum(_left_corrupt(kill, before) for kill, before in zip(kills, [None, *kills], strict=False)),
        "mismatched": sum(kill["mismatched"] for kill in kills),
        "torn": sum(kill["torn"] for kill in kills),
        "runs": len(runs),
        "begun_anew": sum(one["begun_anew"] for one in runs),
        "identical": sum(not one["differs"] for one in runs),
    }


def _left_corrupt(kill: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether a file is corrupt that was not after the kill before, whose files are gone if the run began anew."""
    is_kept = before is not None and before["run"] == kill["run"] and before["resumed"]
    return bool(set(kill["corrupt"]) - set(before["corrupt"] if before is not None and is_kept else ()))


def _costs(cell: Cell, folder: Path) -> dict[str, Any]:
    import torch

    from entroreg.benchmarks.trust.cost import (
        CostPlan,
        SlowdownPlan,
        checkpoint_rounds,
        numbers_of,
        slowdown_rounds,
    )

    torch.set_num_threads(1)
    transitions = TRANSITIONS[cell.preset]
    if cell.task.startswith("checkpoint"):
        plan = CostPlan(transitions, _BETWEEN[cell.preset], ROUNDS[cell.preset])
        return {"rounds": checkpoint_rounds(plan, folder)}
    rounds = slowdown_rounds(SlowdownPlan(transitions, "compiled", 60.0, 60.0, WINDOWS), folder)
    return {"rounds": rounds, **numbers_of(rounds)}


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured: shares of kills and runs, or a value of each method for each round."""
    if "totals" in cell:
        totals = cell["totals"]
        shares = {
            RESUMED: totals["resumed"] / totals["kills"],
            CORRUPT: totals["corrupt"] / totals["kills"],
            IDENTICAL: totals["identical"] / totals["runs"],
        }
        return of_seed(cell, {quantity: 100.0 * share for quantity, share in shares.items()})
    rounds = cell["rounds"]
    if "steps_per_second" in rounds:
        return of_rounds(RATE, rounds["steps_per_second"]) + of_rounds(PAUSE, rounds["pause_seconds"])
    found: list[Reading] = []
    for name, quantity in COSTS.items():
        found += of_rounds(quantity, rounds[name], 1.0 if name.endswith("seconds") else 1e-6)
    return found


def as_text(summary: Mapping[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [f"suite {summary['suite']}, preset {summary['preset']}: killed at random instants and started again"]
    killed = [cell for cell in summary["cells"] if "totals" in cell]
    if killed:
        lines.append(f"  {'':20}{''.join(f'{name:>15}' for name in _COLUMNS)}")
    for cell in killed:
        counts = "".join(f"{cell['totals'][key]:15}" for key in _COLUMNS.values())
        lines.append(f"  {cell['task']:6}{cell['method']:14}{counts}")
    for cell in summary["cells"]:
        lines += [] if cell in killed else _lines_of_rounds(cell)
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _lines_of_rounds(cell: Mapping[str, Any]) -> list[str]:
    lines = [f"  {cell['task']}, one thread, median [min, max]"]
    for quantity, method, values in readings(cell):
        found = np.array(list(values.values()))
        spread = f"{np.median(found):10.3f} [{found.min():.3f}, {found.max():.3f}] {quantity.unit}"
        lines.append(f"    {quantity.name:26} {method:20} {spread}")
    if "steps_lost" in cell:
        share, lost = 100 * cell["pause_share_of_a_minute"], np.round(100 * np.array(cell["steps_lost"]), 2)
        lines.append(f"    a pause is {share:.2f} % of a minute; steps lost, by round, in %: {lost.tolist()}")
    return lines
