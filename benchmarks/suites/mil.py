"""Does attention-entropy maximisation help? Four attention models, each without and with it, on real bags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.mil import report
from entroreg.benchmarks.mil.options import (
    AEMOptions,
    CrossValidationOptions,
    FitOptions,
    ModelName,
    ModelOptions,
    TrainMIL,
)
from entroreg.benchmarks.readings import Quantity, Reading, of_seed
from entroreg.benchmarks.signals import StoppedError, stop_on_signals

NAME = "mil"
AUROC = Quantity("AUROC, out of fold")
MODELS = ("abmil", "gated-abmil", "dsmil", "acmil")
AEM = {
    report.PLAIN: AEMOptions(),
    "aem": AEMOptions(aem=0.1),
    "aem-cosine": AEMOptions(aem=0.1, aem_schedule="cosine"),
    "aem-dual": AEMOptions(aem=0.1, aem_schedule="dual", aem_target=0.9),
}
SEEDS = {"smoke": 1, "small": 3, "paper": 10}
_WHOLE = {f"{model}+{aem}": (model, AEM[aem], None) for model in MODELS for aem in AEM}
_SAMPLED = 256  # instances of each bag and pass, nnMIL's way
METHODS: dict[str, tuple[str, AEMOptions, int | None]] = {
    **_WHOLE,
    "abmil-sampled+none": ("abmil", AEM[report.PLAIN], _SAMPLED),
}


@dataclass(frozen=True)
class Task:
    """A data set and how every method is fitted to it."""

    methods: tuple[str, ...] = tuple(_WHOLE)
    """What is compared."""
    folds: int = 10
    """Of the cross-validation."""
    epochs: int = 30
    """Of each fold's fit."""
    learning_rate: float = 1e-3
    """Of AdamW."""
    bags_per_step: int = 16
    """Bags of a step."""
    hidden: int | None = None
    """Width of the trunk; the models' own for the features' width if None."""
    standardize: bool = True
    """Whether features get mean 0 and deviation 1 over the training bags."""


TASKS = {
    "musk1": Task(),
    "musk2": Task(),
    "elephant": Task(),
    "ucsb_breast_cancer": Task(),
    "mnist-bags": Task(hidden=64, standardize=False),
    "fashion-patches": Task(
        methods=("abmil+none", "abmil+aem", "abmil-sampled+none"), folds=5, epochs=20, hidden=128, standardize=False
    ),
}
SMOKE = {"drawn": Task(methods=("abmil+none", "abmil+aem"), folds=2, epochs=2, bags_per_step=8)}

summarise = report.summarise
as_text = report.as_text
plot = report.plot


def cells(preset: str) -> list[Cell]:
    """Return a cell for each method and seed on each data set; a cell is a whole cross-validation."""
    return [
        Cell(NAME, preset, name, method, seed)
        for seed in range(SEEDS[preset])  # first, so that a run that is broken off has as many seeds of everything
        for name, task in (SMOKE if preset == "smoke" else TASKS).items()
        for method in task.methods
    ]


def run(cell: Cell, folder: Path) -> None:
    """Cross-validate one method on one data set, on one thread, and write the result."""
    from entroreg.benchmarks.mil.bench_data import prepared
    from entroreg.benchmarks.mil.training import train

    task = {**TASKS, **SMOKE}[cell.task]
    model, aem, sampled = METHODS[cell.method]
    data = prepared(cell.task, folder.parents[2] / "data", standardize=task.standardize)
    options = TrainMIL(
        data,
        ModelOptions(model=cast(ModelName, model), hidden=task.hidden),
        aem,
        FitOptions(
            epochs=task.epochs,
            learning_rate=task.learning_rate,
            bags_per_step=task.bags_per_step,
            sampled_bag_size=sampled,
        ),
        CrossValidationOptions(folds=task.folds, seed=cell.seed, threads=1, device="cpu", resume=True),
    )
    with stop_on_signals() as stop:
        result = train(options, folder / "run", stop)
    if result is None:
        raise StoppedError
    write_result(folder, result)


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured."""
    return of_seed(cell, {AUROC: cell["score"]})
