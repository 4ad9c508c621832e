"""A suite of small cells that behave as their method says, in a module that other processes can import too."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks import local_processes

_SUITE = """
import itertools
import os
import signal
import time
from pathlib import Path

import numpy as np

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.signals import StoppedError, stop_on_signals

METHODS = os.environ.get("TOY_METHODS", "quick").split(",")
SEEDS = int(os.environ.get("TOY_SEEDS", "2"))
TASKS = ("t/1", "t2")


def cells(preset):
    every = itertools.product(TASKS, METHODS, range(SEEDS))
    return [Cell("toy", preset, *names) for names in every]


def run(cell, folder):
    (folder / "pid").write_text(str(os.getpid()))
    if cell.method == "brief":
        time.sleep(0.2)
    if cell.method == "endless":
        time.sleep(600)
    if cell.method == "odd" and cell.seed % 2:
        raise ZeroDivisionError(f"odd seed {cell.seed}")
    if cell.method == "dies-once" and cell.seed == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.method == "dies" and cell.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.method == "patient" and not (folder / "state").exists():
        with stop_on_signals() as stop:
            (folder / "pid").write_text(str(os.getpid()))
            while not stop():
                time.sleep(0.01)
        (folder / "state").write_text("kept")
        raise StoppedError
    rng = np.random.default_rng([cell.seed, len(cell.method), len(cell.task)])
    write_result(folder, {"score": float(rng.normal()), "curve": rng.normal(size=(3, 2)).tolist()})
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The suite's name; TOY_METHODS and TOY_SEEDS say what its cells are."""
    (tmp_path / "code" / "toybench").mkdir(parents=True)
    (tmp_path / "code" / "toybench" / "__init__.py").touch()
    (tmp_path / "code" / "toybench" / "suite.py").write_text(_SUITE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    paths = [str(tmp_path / "code"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    for name in ("toybench", "toybench.suite"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "toybench.suite"


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Runs the smoke preset of a suite, once for all tests and all processes of pytest-xdist, and summarises it."""
    from entroreg.benchmarks.bench import run_suite

    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke"
    out.mkdir(exist_ok=True)

    def run(name: str) -> dict[str, Any]:
        with (out / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return {**run_suite(name, "smoke", 1, out), "out": out}

    return run


@pytest.fixture
def threads_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is the same in both, and threads start at once."""
    monkeypatch.setattr(local_processes, "local_executor", lambda jobs, _threads=None: ThreadPoolExecutor(jobs))


@pytest.fixture
def say(toy: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what the cells of the suite are."""

    def change(methods: str = "quick", seeds: int = 2) -> None:
        monkeypatch.setenv("TOY_METHODS", methods)
        monkeypatch.setenv("TOY_SEEDS", str(seeds))
        monkeypatch.delitem(sys.modules, toy, raising=False)

    return change
