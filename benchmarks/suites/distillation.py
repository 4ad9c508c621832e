"""Robust training and distillation of small students on real images, with the teachers' entropies balanced or not.

All methods of a seed have the same first weights and the same two teachers, so that they are compared in pairs.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.distillation import report
from entroreg.benchmarks.distillation.options import (
    AttackOptions,
    BalanceName,
    DataName,
    FitOptions,
    MethodName,
    RunOptions,
    StudentOptions,
    TeacherOptions,
    TrainDistill,
)
from entroreg.benchmarks.readings import Quantity, Reading, of_seed
from entroreg.benchmarks.signals import StoppedError, stop_on_signals

NAME = "distillation"
ROBUST = Quantity("mean of clean and attacked accuracy")
CLEAN = Quantity("clean accuracy")
ATTACKED = Quantity("accuracy under the strongest attack")
SEEDS = {"smoke": 1, "small": 3, "paper": 5}
_TEACHER_SEEDS = 1000  # added: a student does not begin as its teacher did
# name: (method, entropy balance, how many of the two teachers it has)
METHODS: dict[str, tuple[MethodName, BalanceName, int]] = {
    "plain": ("plain", "none", 0),
    "adversarial": ("adversarial", "none", 0),
    "trades": ("trades", "none", 0),
    "rslad": ("rslad", "none", 1),
    "mtard": ("mtard", "none", 2),
    "b-mtard": ("mtard", "solve", 2),
    "b-mtard-sign": ("mtard", "sign", 2),
}


@dataclass(frozen=True)
class Task:
    """A data set and how every method is trained on it."""

    data: DataName
    """The images."""
    attack: AttackOptions
    """In the training and after it."""
    epochs: int
    """Of the students."""
    width: int
    """Of the students."""
    teacher_epochs: int
    """Of both teachers."""
    teacher_width: int
    """Of both teachers."""
    methods: tuple[str, ...] = tuple(METHODS)
    """What is compared."""


_ATTACK = AttackOptions(
    attack_steps=3,
    noise="uniform",
    warm_up=0.4,
    tests=("fgsm", "pgd", "cw", "autoattack"),
    test_images=5000,
    autoattack_images=200,
)
MNIST = Task("mnist", replace(_ATTACK, attack_step=0.2), 6, 16, 6, 24, tuple(METHODS)[:-1])
FASHION = Task("fashion-mnist", replace(_ATTACK, attack_step=0.06), 10, 16, 10, 32)
BARS = Task(
    "bars",
    AttackOptions(attack_steps=2, tests=("fgsm", "pgd")),
    4,
    4,
    4,
    8,
    ("plain", "adversarial", "mtard", "b-mtard"),
)
TASKS = {
    "smoke": {"bars": BARS},
    "small": {"mnist": MNIST},
    "paper": {
        "mnist": replace(MNIST, epochs=30, teacher_epochs=30, methods=tuple(METHODS)),
        "fashion-mnist": replace(FASHION, epochs=30),
    },
}

summarise = report.summarise
as_text = report.as_text
plot = report.plot


def cells(preset: str) -> list[Cell]:
    """Return a cell for each method and seed on each data set."""
    return [
        Cell(NAME, preset, name, method, seed)
        for seed in range(SEEDS[preset])  # first, so that a run that is broken off has as many seeds of everything
        for name, task in TASKS[preset].items()
        for method in task.methods
    ]


def run(cell: Cell, folder: Path) -> None:
    """Train one student on one thread, attack it, and write the result."""
    from entroreg.benchmarks.distillation.training import train

    task = TASKS[cell.preset][cell.task]
    method, balance, teachers = METHODS[cell.method]
    paths = _shared_teachers(task, cell.seed, folder.parents[2] / "teachers" / cell.task) if teachers else []
    teaching = TeacherOptions(tuple(paths[2 - teachers :]), entropy_balance=balance)
    options = _options(task, method, teaching, cell.seed, task.width, task.epochs)
    with stop_on_signals() as stop:
        result = train(options, folder / "run", stop)
    if result is None:
        raise StoppedError
    if cell.method == "b-mtard":
        from entroreg.benchmarks.distillation.balance import teachers_balance

        result["teachers"] = teachers_balance(options, folder / "run")
    write_result(folder, {**result, "score": result["accuracy"][report.score_of(result["accuracy"])]})


def _options(
    task: Task, method: MethodName, teaching: TeacherOptions, seed: int, width: int, epochs: int
) -> TrainDistill:
    return TrainDistill(
        StudentOptions(method, "strided-conv", width, task.data),
        teaching,
        task.attack,
        FitOptions(
            epochs,
            optimizer="adam",
            learning_rate=5e-3,
            weight_decay=0.0,
            schedule="cosine",
            channels_last=True,
            log_every=50,
        ),
        RunOptions(seed=seed, threads=1, device="cpu", resume=True),
    )


def _shared_teachers(task: Task, seed: int, folder: Path) -> list[Path]:
    """Return the run folders of a seed's clean and robust teacher; the first cell makes them, the others wait."""
    from entroreg.benchmarks.distillation.training import train

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with (folder / f".seed-{seed}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names: dict[str, MethodName] = {"clean": "plain", "robust": "adversarial"}
        for name, method in names.items():
            options = _options(
                task, method, TeacherOptions(), _TEACHER_SEEDS + seed, task.teacher_width, task.teacher_epochs
            )
            options = replace(options, attack=replace(task.attack, tests=("pgd",)))
            paths.append(folder / f"{name}-seed-{seed}")
            train(options, paths[-1], stop=lambda: False)
    return paths


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured."""
    accuracy = cell["accuracy"]
    strongest = report.score_of(accuracy).removeprefix("weighted_")
    return of_seed(cell, {ROBUST: cell["score"], CLEAN: accuracy["clean"], ATTACKED: accuracy[strongest]})
