"""SIGKILL at random instants of a training that is started again each time, until it has ended.

Kills come as a Poisson process: after an exponential time, so that each instant of a training is as likely as any
other. A share of them waits for the next save to begin, and falls at a random instant of it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from entroreg.benchmarks.trust.children import Child, start_child

__all__ = ["Inspection", "KillPlan", "Training", "killed_runs"]

_LOOK_SECONDS = 2e-4  # between two looks for a save that begins


class Inspection(NamedTuple):
    """What is found in the folder of a training that was killed.

    Attributes:
        corrupt: files that are neither what they were before nor what they were to become.
        torn: whether the last line of a log is cut off, which whoever reads it leaves out.
        mismatched: whether files that belong together are of different steps.
    """

    corrupt: tuple[str, ...] = ()
    torn: bool = False
    mismatched: bool = False


@dataclass(frozen=True)
class Training:
    """A training as whoever kills it sees it."""

    start: Callable[[Path], int]
    """Trains in a folder to the end, from what is there, and returns the exit code; a module's function or a
    partial of one, called in a process of its own."""
    saves: Callable[[Path], frozenset[str]]
    """Names of the saves that have begun in the folder and not ended, those of killed processes too."""
    inspect: Callable[[Path], Inspection]
    """What is in the folder after a kill."""
    outcome: Callable[[Path], dict[str, str]]
    """Of a training that has ended, a digest of each part of what came of it, without times."""


@dataclass(frozen=True)
class KillPlan:
    """How a training is killed."""

    kills: int
    """All in all, over as many runs as it takes."""
    per_run: float
    """Kills in the time that an undisturbed run takes, on average."""
    aimed: float
    """Share that is aimed inside a save."""


class _Undisturbed(NamedTuple):
    seconds: float
    save_seconds: float
    outcome: dict[str, str]


@dataclass
class _Found:
    kills: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)


def killed_runs(training: Training, plan: KillPlan, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Train undisturbed twice, then kill further runs as planned, and compare what comes of them.

    Args:
        training: what is killed.
        plan: how.
        folder: that exists, for the runs; of those that end otherwise than the undisturbed ones the first is kept.
        rng: of the instants.

    Returns:
        JSON data: ``undisturbed`` (seconds, seconds of a save, whether both gave the same), ``kills`` (each with
        its run, seconds after the start, whether it fell inside a save, what was found, whether the training then
        went on) and ``runs`` (each with its kills and the parts of the outcome that differ).
    """
    one, other = (_undisturbed(training, folder / f"undisturbed-{number}") for number in range(2))
    found = _Found()
    while len(found.kills) < plan.kills:
        _run(training, plan, other, folder, rng, found)  # the first waited for imports too
    return {
        "undisturbed": {
            "seconds": [one.seconds, other.seconds],
            "save_seconds": other.save_seconds,
            "parts": sorted(other.outcome),
            "repeats": one.outcome == other.outcome,
        },
        "plan": asdict(plan),
        "kills": found.kills,
        "runs": found.runs,
    }


def _undisturbed(training: Training, run: Path) -> _Undisturbed:
    """Train to the end and time the saves."""
    began, saves = time.perf_counter(), []
    with start_child(training.start, run) as child:
        while _wait_for_save(training, child, run, frozenset()):
            save_began = time.perf_counter()
            while training.saves(run) and child.runs:
                time.sleep(_LOOK_SECONDS)
            saves.append(time.perf_counter() - save_began)
        seconds = time.perf_counter() - began
        child.require_success()
    if not saves:
        raise RuntimeError(f"a training must save before it ends, got none seen in {run}: save more often")
    return _Undisturbed(seconds, float(np.median(saves)), training.outcome(run))


def _run(
    training: Training, plan: KillPlan, whole: _Undisturbed, folder: Path, rng: np.random.Generator, found: _Found
) -> None:
    """Train to the end, killed until no kill is left."""
    number = len(found.runs)
    run = folder / f"run-{number}"
    begun_anew = 0
    of_run: list[dict[str, Any]] = []
    while True:
        left = plan.kills - len(found.kills) - len(of_run)
        kill, failed = _attempt(training, plan if left else None, whole, run, rng)
        if failed:
            # The kill before is what it could not go on after; as a user would, begin again without what is there.
            if not of_run:
                raise RuntimeError(f"a training must start where nothing disturbed it, got a failure in {run}")
            of_run[-1]["resumed"] = False
            shutil.rmtree(run)
            begun_anew += 1
        elif kill is None:
            break
        else:
            of_run.append({"run": number, **kill})
    outcome = training.outcome(run)
    parts = whole.outcome.keys() | outcome.keys()
    differs = sorted(part for part in parts if whole.outcome.get(part) != outcome.get(part))
    if not differs or any(other["differs"] for other in found.runs):
        shutil.rmtree(run)
    found.kills += of_run
    found.runs.append({"kills": len(of_run), "begun_anew": begun_anew, "differs": differs})


def _attempt(
    training: Training, plan: KillPlan | None, whole: _Undisturbed, run: Path, rng: np.random.Generator
) -> tuple[dict[str, Any] | None, bool]:
    """Start the training and kill it as planned; return the kill, if it came in time, and whether it failed."""
    began, before, aimed = time.perf_counter(), training.saves(run), False
    with start_child(training.start, run) as child:
        if plan is None:
            child.wait(None)
        else:
            aimed = bool(rng.random() < plan.aimed)
            child.wait(rng.exponential(whole.seconds / plan.per_run))
            delay = rng.uniform(0.0, whole.save_seconds)
            if aimed and _wait_for_save(training, child, run, before):
                child.wait(delay)
        seconds = time.perf_counter() - began
        if not child.kill():
            return None, not child.succeeded
    inside = bool(training.saves(run) - before)
    kill = {"seconds": round(seconds, 4), "aimed": aimed, "inside_save": inside}
    inspection = training.inspect(run)
    return {**kill, **inspection._asdict(), "corrupt": list(inspection.corrupt), "resumed": True}, False


def _wait_for_save(training: Training, child: Child, run: Path, before: frozenset[str]) -> bool:
    """Wait until a save begins that was not there before and return True, or until the training ends."""
    while child.runs:
        if training.saves(run) - before:
            return True
        time.sleep(_LOOK_SECONDS)
    return False
