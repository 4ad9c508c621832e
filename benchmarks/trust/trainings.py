"""The trainings that are killed: real runs of the command, small ones, always started with ``--resume``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from entroreg.benchmarks.cells import Cell
from entroreg.benchmarks.trust import contents
from entroreg.benchmarks.trust.kills import Inspection, Training

__all__ = ["BUFFER_SIZE", "ENV", "EVERY", "SAC_STEPS", "of_command"]

ENV = "InvertedPendulum-v5"
_BAGS = "bags.csv"
SAC_STEPS = {"smoke": 200, "small": 2_000, "paper": 2_000}
EVERY = 100
"""Steps of SAC between two checkpoints."""
BUFFER_SIZE = 1_500
"""Transitions that are kept: of SAC the first ones are overwritten towards the end, except at ``smoke``."""
_PLAYERS = (
    "--net",
    "32",
    "32",
    "--batch-size",
    "32",
    "--buffer-size",
    str(BUFFER_SIZE),
    "--engine",
    "eager",
    "--env",
    ENV,
    "--eval-episodes",
    "2",
)
_QARL_STEPS = {"smoke": 200, "small": 2_000, "paper": 2_000}
_MIL_EPOCHS = {"smoke": 2, "small": 30, "paper": 30}


def of_command(task: str, preset: str, folder: Path) -> Training:
    """Return the training of a task as the command runs it.

    Args:
        task: ``sac``, ``qarl`` or ``mil``.
        preset: its size.
        folder: that exists; the data go there.
    """
    if task == "mil":
        _write_bags(folder / _BAGS)
    arguments = {"sac": _sac(preset), "qarl": _qarl(preset), "mil": _mil(preset, folder / _BAGS)}[task]
    kind, data = {"sac": ("sac", ENV), "qarl": ("qarl", ENV), "mil": ("mil-abmil-aem-dual", "bags")}[task]
    run = Cell("train", "command", data, kind, 0)
    return Training(
        start=partial(_start, [*arguments, "--threads", "1", "--resume"]),
        saves=partial(_saves, run),
        inspect=partial(_inspect, run),
        outcome=partial(_outcome, run),
    )


def _sac(preset: str) -> list[str]:
    steps = ["--steps", str(SAC_STEPS[preset]), "--checkpoint-every", str(EVERY)]
    return ["train", "sac", *_PLAYERS, *steps, "--learning-starts", "100"]


def _qarl(preset: str) -> list[str]:
    steps = ["--steps", str(_QARL_STEPS[preset]), "--checkpoint-every", "1"]
    return ["train", "qarl", *_PLAYERS, *steps, "--learning-starts", "60", "--episodes", "2", "--return-floor", "3"]


def _mil(preset: str, bags: Path) -> list[str]:
    data = ["--features", str(bags), "--standardize", "--model", "abmil", "--hidden", "16", "--dropout", "0.2"]
    aem = ["--aem", "0.1", "--aem-schedule", "dual"]
    fit = ["--epochs", str(_MIL_EPOCHS[preset]), "--bags-per-step", "8", "--folds", "3", "--device", "cpu"]
    return ["train", "mil", *data, *aem, *fit, "--checkpoint-every", "1"]


def _write_bags(path: Path) -> None:
    """Write bags of normal instances, some of which are shifted in every second bag."""
    rng = np.random.default_rng(0)
    lines = []
    for bag in range(60):
        for _ in range(rng.integers(5, 15)):
            shift = 2.0 * (bag % 2) * (rng.random() < 0.3)
            lines.append(",".join(map(str, [bag % 2, bag, *rng.normal(size=10) + shift])))
    path.write_text("\n".join(lines) + "\n")


def _start(arguments: list[str], folder: Path) -> int:
    from entroreg.benchmarks.cli import main

    return main([*arguments, "--out", str(folder)])


def _saves(run: Cell, folder: Path) -> frozenset[str]:
    return contents.saves(run.folder(folder))


def _inspect(run: Cell, folder: Path) -> Inspection:
    return contents.inspect(run.folder(folder))


def _outcome(run: Cell, folder: Path) -> dict[str, str]:
    return contents.outcome(run.folder(folder))
