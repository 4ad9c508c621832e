"""One run in one folder: train a student, attack it, write everything down; stopped, it can go on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from entroreg import checkpoint
from entroreg.benchmarks.cells import Cell, is_done, read_result, write_result
from entroreg.benchmarks.distillation.building import (
    STUDENT,
    images_of,
    new_student,
    read_network,
    settings_of,
    teachers_of,
)
from entroreg.benchmarks.distillation.options import AttackOptions, TrainDistill, from_json, to_json
from entroreg.benchmarks.distillation.picture import plot_rows
from entroreg.benchmarks.errors import RUN_FAILED, UserError
from entroreg.benchmarks.mil.building import resolve_device
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.run_folder import (
    CHECKPOINT,
    claimed,
    parsed_config,
    require_same_run,
    set_threads,
    write_head,
)
from entroreg.checkpoint import CheckpointError
from entroreg.state_tree import join_state, split_state
from entroreg.vision.distillation import Trainer, accuracies, accuracy, weighted_robust_accuracy
from entroreg.vision.images.data import ImageSet

Stop = Callable[[], bool]
METRICS = "metrics.jsonl"
_MAY_DIFFER = ("out", "threads", "device", "overwrite", "resume", "json")
_SAVE_SECONDS = 60.0  # between checkpoints


def run_folder(options: TrainDistill) -> Path:
    """Return the folder of a run: OUT/train/distill-METHOD[-BALANCE]-STUDENT/DATA/seed-SEED."""
    return Cell("train", "command", options.model.data, options.name, options.run.seed).folder(options.run.out)


def train(options: TrainDistill, folder: Path, stop: Stop) -> dict[str, Any] | None:
    """Train a student, attack it, and write the run folder.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: asked at every step; a stop saves a checkpoint and ends.

    Returns:
        The result, as in result.json; None if stopped.

    Raises:
        UserError: the data, a teacher or the options are no good, the folder is taken, or it holds another run.
        FloatingPointError: the loss became NaN or infinite; the last checkpoint is kept.
        OSError: the folder cannot be written.
    """
    set_threads(options.run.threads)
    if options.run.resume and is_done(folder):
        require_same_run(folder, to_json(options), _MAY_DIFFER)
        return read_result(folder)
    if "autoattack" in options.attack.tests:
        _require_autoattack()
    trainer = _new_trainer(options)
    with claimed(folder, overwrite=options.run.overwrite, resume=options.run.resume):
        if (folder / "config.json").exists():
            require_same_run(folder, to_json(options), _MAY_DIFFER)
        else:
            write_head(folder, to_json(options))
        run = _Run(options, folder, trainer)
        if not run.go(stop):
            return None
        result = run.result()
        write_result(folder, result)
        return result


def evaluate_run(folder: Path, config: dict[str, Any], device: str = "auto") -> dict[str, Any]:
    """Return the accuracies of the student of a run folder, by the same attacks as at the run's end.

    Args:
        folder: of a run of ``entroreg train distill``.
        config: of the run, from ``read_config``.
        device: torch device.

    Raises:
        UserError: the folder is no such run, or not finished.
    """
    options = parsed_config(folder, config, from_json)
    if not (folder / STUDENT).exists():
        raise UserError(f"{folder} must be a finished run with {STUDENT}, got none: go on with --resume")
    test = images_of(options.model, "test")
    student = read_network(folder, test).to(resolve_device(device))
    return tested(student, test, options.eps, options.attack, options.run.seed)


def tested(network: nn.Module, test: ImageSet, eps: float, options: AttackOptions, seed: int) -> dict[str, Any]:
    """Return the accuracies of a network: clean, on attacked images, and the means of both.

    Args:
        network: on the device to work on.
        test: images.
        eps: radius of the attacks.
        options: which attacks, and how many images each has.
        seed: of the attacks.
    """
    device = next(network.parameters()).device
    test = ImageSet(test.images.to(device), test.labels.to(device), test.classes)
    attacked = test if options.test_images is None else test.first(options.test_images)
    found: dict[str, Any] = {"clean": accuracy(network, test), "images": len(attacked.labels)}
    seconds = {}
    for name in options.tests:
        part = attacked.first(options.autoattack_images) if name == "autoattack" else attacked
        begun = time.perf_counter()
        found |= accuracies(network, part, eps, attacks=(name,), seed=seed)
        seconds[name] = round(time.perf_counter() - begun, 1)
        found[f"weighted_{name}"] = weighted_robust_accuracy(found["clean"], found[name])
    if "autoattack" in options.tests:
        found["autoattack_images"] = min(options.autoattack_images, found["images"])
    return found | {"test_seconds": seconds}


class _Run:
    """A trainer, its folder, and what is written there."""

    def __init__(self, options: TrainDistill, folder: Path, trainer: Trainer) -> None:
        self._options, self._folder, self._trainer = options, folder, trainer
        self._rows: list[dict[str, float]] = []
        self._earlier_seconds = 0.0
        if (folder / CHECKPOINT).exists():
            self._load()
        self._begun = self._saved = time.perf_counter()

    def go(self, stop: Stop) -> bool:
        """Train until the end; return False if stopped, with the checkpoint saved."""
        options, trainer = self._options, self._trainer
        title = f"{options.name} on {options.model.data}"
        total = trainer.settings.epochs * trainer.steps_per_epoch
        with (self._folder / METRICS).open("w") as metrics, show_progress(title, total) as progress:
            metrics.writelines(json.dumps(row) + "\n" for row in self._rows)
            for row in trainer.run(stop):
                self._rows.append({**row, "seconds": round(self._seconds(), 2)})
                metrics.write(json.dumps(self._rows[-1]) + "\n")
                metrics.flush()
                progress.advance(trainer.step, [])
                if trainer.finished or time.perf_counter() - self._saved > _SAVE_SECONDS:
                    self._save()
        if not trainer.finished:
            self._save()
        return trainer.finished

    def result(self) -> dict[str, Any]:
        """Attack the student, write it and its curves, and return the result as JSON data."""
        options, student = self._options, self._trainer.student
        seconds = self._seconds()
        _write_student(student, self._folder / STUDENT)
        plot_rows(self._rows, self._folder / "learning_curve.png", options.name)
        test = images_of(options.model, "test")
        return {
            "agent": "distill",
            "method": options.model.method,
            "balance": options.teaching.entropy_balance if options.model.method == "mtard" else "none",
            "data": options.model.data,
            "student": options.model.student,
            "seed": options.run.seed,
            "epochs": options.fit.epochs,
            "eps": options.eps,
            "parameters": sum(parameter.numel() for parameter in student.parameters()),
            "train_seconds": round(seconds, 1),
            "accuracy": tested(student, test, options.eps, options.attack, options.run.seed),
            "trace": _trace(self._rows),
        }

    def _seconds(self) -> float:
        return self._earlier_seconds + time.perf_counter() - self._begun

    def _save(self) -> None:
        tensors, tree = split_state(self._trainer.state_dict())
        metadata = {"agent": "distill", "trainer": tree, "rows": len(self._rows), "seconds": self._seconds()}
        checkpoint.save_checkpoint(self._folder / CHECKPOINT, tensors, metadata)
        self._saved = time.perf_counter()

    def _load(self) -> None:
        try:
            tensors, metadata = checkpoint.load_checkpoint(self._folder / CHECKPOINT)
        except CheckpointError as error:
            raise UserError(str(error), RUN_FAILED) from error
        self._trainer.load_state_dict(join_state(tensors, metadata["trainer"]))
        lines = (self._folder / METRICS).read_text().splitlines()[: int(metadata["rows"])]
        self._rows = [json.loads(line) for line in lines]
        self._earlier_seconds = float(metadata["seconds"])


def _new_trainer(options: TrainDistill) -> Trainer:
    images = images_of(options.model, "train")
    student = new_student(options.model, images, options.run.seed)
    teachers = teachers_of(options, images)
    try:
        return Trainer(student, images, settings_of(options), teachers, resolve_device(options.run.device))
    except ValueError as error:
        raise UserError(str(error)) from error


def _write_student(student: nn.Module, path: Path) -> None:
    """Write the state dict by a rename, so that no half of a file is ever taken for a teacher."""
    temporary = path.with_name(f".{path.name}")
    save_file({name: value.detach().cpu().contiguous() for name, value in student.state_dict().items()}, temporary)
    shutil.copymode(path.with_name("config.json"), temporary)  # safetensors lets only the owner read
    os.replace(temporary, path)


def _trace(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return what the teachers' balance did, by name, without the rest of the metrics."""
    wanted = ("step", "temperature_", "entropy_", "weight_", "loss_")
    names = [name for name in rows[0] if name.startswith(wanted)]
    return {name: [round(row[name], 6) for row in rows] for name in names} if len(names) > 1 else {}


def _require_autoattack() -> None:
    """Refuse before the training what would fail after it."""
    from importlib.util import find_spec

    from entroreg.benchmarks.errors import MISSING

    if find_spec("pyautoattack") is None:
        raise UserError("test autoattack needs pyautoattack: pip install 'entroreg[attacks]'", MISSING)
