"""Kills in a fresh process, whose children are forked from what this training needs, not an earlier test's."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.trust.children import start_forking
from entroreg.benchmarks.trust.imports import IMPORTS
from entroreg.benchmarks.trust.kills import KillPlan, killed_runs

KILLS = 12


def killed(task: str, method: str, folder: Path) -> dict[str, Any]:
    """Return what came of a training of suite trust, at its size of preset small."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        return pool.submit(_killed, task, method, folder).result()


def _killed(task: str, method: str, folder: Path) -> dict[str, Any]:
    start_forking(IMPORTS[task])
    from entroreg.benchmarks.trust.stock import of_stock
    from entroreg.benchmarks.trust.trainings import of_command

    training = of_command(task, "small", folder) if method == "entroreg" else of_stock(method, "small")
    return killed_runs(training, KillPlan(KILLS, 6.0, 0.5), folder, np.random.default_rng(1))
