"""One run in one folder: train a student, attack it, write everything down; stopped, it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from entroreg import checkpoint
from entroreg.atomic import write_bytes
from entroreg.benchmarks.cells import Cell, is_done, read_result, write_result
from entroreg.benchmarks.distillation.building import (
    STUDENT,
    images_of,
    new_student,
    read_network,
    settings_of,
    teachers_of,
)
from entroreg.benchmarks.distillation.options import TrainDistill, from_json, to_json
from entroreg.benchmarks.distillation.picture import plot_rows
from entroreg.benchmarks.distillation.testing import Attacks
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.mil.building import resolve_device
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.row_file import METRICS, RowFile
from entroreg.benchmarks.run_folder import (
    CHECKPOINT,
    claimed,
    parsed_config,
    require_same_run,
    saved_run,
    set_threads,
    write_head,
)
from entroreg.state_tree import join_state, split_state
from entroreg.vision.distillation import Trainer

Stop = Callable[[], bool]
_AGENT = "distill"
_MAY_DIFFER = ("out", "threads", "device", "overwrite", "resume", "json", "checkpoint_every", "keep")
_SAVE_SECONDS = 60.0  # between checkpoints by default


def run_folder(options: TrainDistill) -> Path:
    """Return the folder of a run: OUT/train/distill-METHOD[-BALANCE]-STUDENT/DATA/seed-SEED."""
    return Cell("train", "command", options.model.data, options.name, options.run.seed).folder(options.run.out)


def train(options: TrainDistill, folder: Path, stop: Stop) -> dict[str, Any] | None:
    """Train a student, attack it, and write the run folder.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: asked at every step, and at every pass of the tests after it; a stop saves a checkpoint and ends.

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
        result = _Run(options, folder, trainer).go(stop)
        if result is not None:
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
    student = read_network(folder, images_of(options.model, "test")).to(resolve_device(device))
    found = _attacks(options, student).run()
    assert found is not None, "nothing stops it"
    return found


class _Run:
    """A trainer, its folder, and what is written there."""

    def __init__(self, options: TrainDistill, folder: Path, trainer: Trainer) -> None:
        self._options, self._folder, self._trainer = options, folder, trainer
        self._row_count = 0  # in metrics.jsonl
        self._seconds = 0.0  # of the training, up to the last save
        self._found: dict[str, Any] = {}  # by tests
        self._load()
        self._saved = self._counted = time.perf_counter()

    def go(self, stop: Stop) -> dict[str, Any] | None:
        """Train until the end, attack the student, write it and its curves; None if stopped, with all saved."""
        options, trainer = self._options, self._trainer
        title = f"{options.name} on {options.model.data}"
        total = trainer.settings.epochs * trainer.steps_per_epoch
        with RowFile(self._folder / METRICS, self._row_count) as metrics, show_progress(title, total) as progress:
            for row in trainer.run(lambda: self._after_step(metrics, stop)):
                metrics.write({**row, "seconds": round(self._count_seconds(), 2)})
                progress.advance(trainer.step, [])
            if not trainer.finished:
                return None
            rows = metrics.rows
        write_bytes(self._folder / STUDENT, save(_plain_state(trainer.student)))
        plot_rows(rows, self._folder / "learning_curve.png", options.name)
        attacks = _attacks(options, trainer.student)
        found = attacks.run(self._found, stop=stop, after=self._after_test)
        return None if found is None else self._result(rows, found)

    def _result(self, rows: list[dict[str, float]], found: dict[str, Any]) -> dict[str, Any]:
        options = self._options
        return {
            "agent": _AGENT,
            "method": options.model.method,
            "balance": options.teaching.entropy_balance if options.model.method == "mtard" else "none",
            "data": options.model.data,
            "student": options.model.student,
            "seed": options.run.seed,
            "epochs": options.fit.epochs,
            "eps": options.eps,
            "parameters": sum(parameter.numel() for parameter in self._trainer.student.parameters()),
            "train_seconds": round(self._seconds, 1),
            "accuracy": found,
            "trace": _trace(rows),
        }

    def _after_step(self, metrics: RowFile, stop: Stop) -> bool:
        """Save where it is time to, and return whether to stop."""
        stopping = stop()
        if stopping or self._trainer.finished or self._is_due():
            metrics.sync()
            self._row_count = len(metrics.rows)
            self._count_seconds()
            self._save()
        return stopping

    def _after_test(self, found: dict[str, Any]) -> None:
        self._found = found
        self._save()

    def _is_due(self) -> bool:
        every = self._options.run.checkpoint_every
        if every is None:
            return time.perf_counter() - self._saved > _SAVE_SECONDS
        return self._trainer.step % every == 0

    def _count_seconds(self) -> float:
        now = time.perf_counter()
        self._seconds, self._counted = self._seconds + now - self._counted, now
        return self._seconds

    def _save(self) -> None:
        tensors, tree = split_state(self._trainer.state_dict())
        facts = {"rows": self._row_count, "seconds": self._seconds, "tests": self._found}
        metadata = {"agent": _AGENT, "trainer": tree, **facts}
        checkpoint.save_checkpoint(self._folder / CHECKPOINT, tensors, metadata, keep=self._options.run.keep)
        self._saved = time.perf_counter()

    def _load(self) -> None:
        saved = saved_run(self._folder, _AGENT)
        if saved is None:
            return
        tensors, metadata = saved
        with checkpoint.refusing_unfit(self._folder / CHECKPOINT):
            self._trainer.load_state_dict(join_state(tensors, metadata["trainer"]))
            self._row_count, self._seconds = int(metadata["rows"]), float(metadata["seconds"])
            self._found = dict(metadata.get("tests", {}))  # absent before runs could be stopped in their tests


def _attacks(options: TrainDistill, student: nn.Module) -> Attacks:
    return Attacks(student, images_of(options.model, "test"), options.eps, options.attack, options.run.seed)


def _plain_state(student: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in student.state_dict().items()}


def _new_trainer(options: TrainDistill) -> Trainer:
    images = images_of(options.model, "train")
    student = new_student(options.model, images, options.run.seed)
    teachers = teachers_of(options, images)
    try:
        return Trainer(student, images, settings_of(options), teachers, resolve_device(options.run.device))
    except ValueError as error:
        raise UserError(str(error)) from error


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
