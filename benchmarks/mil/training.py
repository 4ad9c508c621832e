"""One cross-validation in one folder: fit each fold, test it, write everything down; stopped, it can go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from entroreg.benchmarks.cells import Cell, is_done, read_result, write_result
from entroreg.benchmarks.mil.building import (
    data_errors_as_user_errors,
    fit_settings,
    new_model,
    open_dataset,
    resolve_device,
)
from entroreg.benchmarks.mil.cross_validation import CrossValidation, Stop
from entroreg.benchmarks.mil.options import TrainMIL, to_json
from entroreg.benchmarks.run_folder import claimed, require_same_run, set_threads, write_head
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting import Processes, joined_processes
from entroreg.vision.mil.splits import Fold, read_folds, stratified_folds, write_folds

SPLITS = "splits.json"
_MAY_DIFFER = ("out", "threads", "device", "overwrite", "resume", "json", "checkpoint_every", "keep")


def run_folder(options: TrainMIL) -> Path:
    """Return the folder of a run: OUT/train/mil-MODEL[-aem[-SCHEDULE]]/DATA/seed-SEED."""
    name = f"mil-{options.model.model}{options.aem.suffix}"
    return Cell("train", "command", options.data.name, name, options.run.seed).folder(options.run.out)


def train(options: TrainMIL, folder: Path, stop: Stop) -> dict[str, Any] | None:
    """Fit and test a model on every fold, and write the run folder.

    Started by ``torchrun``, the processes share every batch, and the first one writes.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: asked at every step; a stop saves a checkpoint and ends.

    Returns:
        The result, as in result.json, in every process; None if stopped.

    Raises:
        UserError: the data or the options are no good, the folder is taken, or it holds another run to go on with.
        FloatingPointError: a loss or a gradient became NaN or infinite; the last checkpoint is kept.
        OSError: the folder cannot be written.
    """
    set_threads(options.run.threads)
    if options.run.resume and is_done(folder):
        require_same_run(folder, to_json(options), _MAY_DIFFER)
        return read_result(folder)
    device = resolve_device(options.run.device)
    with joined_processes(device) as processes, data_errors_as_user_errors():
        dataset = open_dataset(options.data)
        folds = _new_folds(options, dataset)
        fit_settings(options, fold=0)  # this and the next are refused before the folder is touched
        new_model(options.model, dataset, options.run.seed, fold=0)
        with _prepared(options, folder, dataset, folds, processes):
            kept = read_folds(folder / SPLITS, dataset)
            run = CrossValidation(options, folder, dataset, kept, device, processes)
            result = run.result() if run.go(stop) else None
            if result is not None and processes.rank == 0:
                write_result(folder, result)
            processes.wait()
            return result


@contextmanager
def _prepared(
    options: TrainMIL, folder: Path, dataset: BagDataset, folds: list[Fold], processes: Processes
) -> Iterator[None]:
    """Hold the folder by the first process, and wait until it says what is run."""
    if processes.rank:
        processes.wait()
        yield
        return
    with claimed(folder, overwrite=options.run.overwrite, resume=options.run.resume):
        if (folder / SPLITS).exists():
            require_same_run(folder, to_json(options), _MAY_DIFFER)
        else:
            write_head(folder, to_json(options))
            write_folds(folder / SPLITS, folds, dataset)
        processes.wait()
        yield


def _new_folds(options: TrainMIL, dataset: BagDataset) -> list[Fold]:
    run = options.run
    return stratified_folds(
        dataset.labels,
        dataset.patients,
        run.folds,
        run.seed,
        validation_share=run.validation_share,
        classes=dataset.classes,
    )
