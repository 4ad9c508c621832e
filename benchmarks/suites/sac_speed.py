"""Speed of SAC: whole training steps of several libraries in turn, on one and on two threads.

Peers are measured where they are installed: SBX in this interpreter or in the one that ENTROREG_PEERS names,
RLtools only in a named one, since it cannot share a process with torch::

    ENTROREG_PEERS=sbx=/path/to/python,rltools=/path/to/python entroreg bench run sac-speed --preset small
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from entroreg.benchmarks.cells import Cell, gather_results, write_result
from entroreg.benchmarks.provenance import cores
from entroreg.benchmarks.readings import Quantity, Reading, of_rounds
from entroreg.benchmarks.speed import peers, picture, processes, report
from entroreg.benchmarks.speed.measuring import FLOOR, Plan, measure

NAME = "sac-speed"
STEP = Quantity("training step", "ms", "lower", "round", is_time=True)
UPDATE = Quantity("update", "ms", "lower", "round", is_time=True)
MOST_JOBS = 1  # cells that ran at once would slow each other
BOUNDS = (FLOOR,)  # no rival: the matrix products alone
THREADS = {"HalfCheetah-v5-1-thread": 1, "HalfCheetah-v5-2-threads": 2}
_ALL = ("entroreg", "entroreg-eager", "sb3", "sbx", "rltools")
PLANS = {
    # Without what compiles, so that it ends within a minute.
    "smoke": Plan(("entroreg-eager", "sb3"), warmup=2, rounds=2, steps=4, updates=2, stage_rounds=1),
    "small": Plan(_ALL, warmup=200, rounds=9, steps=200, updates=100, stage_rounds=3),
    "paper": Plan(_ALL, warmup=1000, rounds=25, steps=500, updates=200, stage_rounds=7),
}

as_text = report.as_text
plot = picture.plot_steps
summarise = gather_results


def cells(preset: str) -> list[Cell]:
    """Return a cell for each number of threads; all methods take turns within it.

    Raises:
        UserError: the environment variable ENTROREG_PEERS is wrong, which is better told before hours than after.
    """
    peers.named_interpreters()
    return [Cell(NAME, preset, task, "in-turn", 0) for task in THREADS]


def run(cell: Cell, folder: Path) -> None:
    """Measure all methods on a number of threads and write the result.

    Raises:
        RuntimeError: there are too few cores, or a worker died.
        UserError: the environment variable ENTROREG_PEERS is wrong.
    """
    plan, threads = PLANS[cell.preset], THREADS[cell.task]
    if cores() < threads:
        raise RuntimeError(f"{cell.task} must have {threads} cores, got {cores()}: run it on another machine")
    present, absent = peers.interpreters((*plan.methods, FLOOR))
    with ExitStack() as stack:
        workers = {
            method: stack.enter_context(
                processes.started(method, interpreter, threads=threads, warmup=plan.warmup, folder=folder)
            )
            for method, interpreter in present.items()
        }
        measured = measure(workers, plan)
    write_result(folder, {"threads": threads, "not_installed": absent, **measured})


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured, a value of each method for each round."""
    rounds = cell["rounds"]
    return of_rounds(STEP, rounds["step_ms"]) + of_rounds(UPDATE, rounds["update_ms"])
