"""A run folder of ``entroreg train mil`` read back: its folds' models, and its figures computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.mil.building import data_errors_as_user_errors, open_dataset, resolve_device
from entroreg.benchmarks.mil.fold_checkpoint import fold_checkpoint, read_fold
from entroreg.benchmarks.mil.options import TrainMIL, from_json
from entroreg.benchmarks.mil.outcomes import FoldOutcome, summarise, tested
from entroreg.benchmarks.mil.training import SPLITS
from entroreg.benchmarks.run_folder import parsed_config, read_config, set_threads
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting import BagReader, Processes, reader_for
from entroreg.vision.mil.models import MILModel
from entroreg.vision.mil.splits import Fold, read_folds


class LoadedFold(NamedTuple):
    """A finished fold of a run.

    Attributes:
        model: with its best weights, on the CPU, in evaluation mode.
        dataset: as the model is to see it.
        split: its training, validation and test bags.
    """

    model: MILModel
    dataset: BagDataset
    split: Fold


def load_fold(folder: Path, fold: int) -> LoadedFold:
    """Return the model, the data set and the split of a finished fold.

    Args:
        folder: of a run of ``entroreg train mil``.
        fold: its number, from 0.

    Raises:
        UserError: the folder is no such run, the fold is not done, or the data are gone or changed.
        CheckpointError: the checkpoint is damaged.
    """
    options = parsed_config(folder, read_config(folder), from_json)
    with data_errors_as_user_errors():
        dataset = open_dataset(options.data)
        folds = read_folds(folder / SPLITS, dataset)
    if not 0 <= fold < len(folds):
        raise UserError(f"fold must be in [0, {len(folds) - 1}], got {fold}")
    found = read_fold(fold_checkpoint(folder, fold), options, dataset)
    return LoadedFold(found.model, found.dataset, folds[fold])


def evaluate_run(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a run, computed again from the checkpoints of its finished folds.

    Args:
        folder: of a run of ``entroreg train mil``.
        config: of the run, from ``read_config``.

    Returns:
        Of result.json all that the predictions say; of a stopped run, over the folds that are done.

    Raises:
        UserError: the folder is no such run, no fold is done, or the data are gone or changed.
        CheckpointError: a checkpoint is damaged.
    """
    options = parsed_config(folder, config, from_json)
    set_threads(options.run.threads)
    with data_errors_as_user_errors():
        dataset = open_dataset(options.data)
        folds = read_folds(folder / SPLITS, dataset)
    done = [number for number in range(len(folds)) if fold_checkpoint(folder, number).exists()]
    if not done:
        raise UserError(f"{folder} has no finished fold yet: train longer, or go on with --resume")
    outcomes = [_tested_again(folder, options, dataset, folds[number], number) for number in done]
    return summarise(dataset, outcomes, options.run.seed)


def _tested_again(folder: Path, options: TrainMIL, dataset: BagDataset, fold: Fold, number: int) -> FoldOutcome:
    found = read_fold(fold_checkpoint(folder, number), options, dataset)
    device = resolve_device(options.run.device)
    reader: BagReader = reader_for(found.dataset, device)
    outcome = tested(
        found.model.to(device),
        found.dataset,
        fold.test,
        counts=found.counts,
        reader=reader,
        amp=options.fit.amp,
        processes=Processes(),
        stop=lambda: False,
    )
    assert outcome is not None, "nothing stops it"
    return outcome
