"""The best model of a fold, in a checkpoint of its own."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from entroreg import checkpoint
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.mil.building import new_model
from entroreg.benchmarks.mil.options import TrainMIL
from entroreg.benchmarks.mil.outcomes import FitCounts
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting import StandardizedBags
from entroreg.vision.mil.models import MILModel

_MODEL, _MEAN, _SCALE = "model/", "mean", "scale"


class FoldModel(NamedTuple):
    """A fold's model with the data as it sees them.

    Attributes:
        model: with its best weights, in evaluation mode.
        dataset: standardised where the run was.
        counts: how it was fitted.
    """

    model: MILModel
    dataset: BagDataset
    counts: FitCounts


def fold_checkpoint(folder: Path, fold: int) -> Path:
    """Return where the model of a fold of a run is."""
    return folder / "checkpoints" / f"fold-{fold}"


def remove_folds(folder: Path, fewest: int) -> None:
    """Remove the models of the folds from a number on: a run that goes on fits these again."""
    for path in (folder / "checkpoints").glob("fold-*"):
        if int(path.name.removeprefix("fold-").partition(".")[0]) >= fewest:
            shutil.rmtree(path)


def save_fold(path: Path, model: MILModel, dataset: BagDataset, counts: FitCounts) -> None:
    """Save a model and, where its data were standardised, how."""
    tensors: dict[str, Tensor] = {f"{_MODEL}{name}": value for name, value in model.state_dict().items()}
    if isinstance(dataset, StandardizedBags):
        tensors |= {_MEAN: dataset.mean, _SCALE: dataset.scale}
    checkpoint.save_checkpoint(path, tensors, {"agent": "mil", "classes": list(dataset.classes), **asdict(counts)})


def read_fold(path: Path, options: TrainMIL, dataset: BagDataset) -> FoldModel:
    """Return the model of a fold on the CPU, and the data set as it is to see it.

    Args:
        path: from ``fold_checkpoint``.
        options: of the run.
        dataset: of the run, as it was opened.

    Raises:
        UserError: there is no such checkpoint.
        CheckpointError: it is damaged.
        UnfitCheckpointError: it does not fit the run's config.json.
    """
    try:
        tensors, metadata = checkpoint.load_checkpoint(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} must be the checkpoint of a finished fold, got none: train longer") from error
    with checkpoint.refusing_unfit(path):
        model = new_model(options.model, dataset, options.run.seed, metadata["fold"])
        weights = {name.removeprefix(_MODEL): value for name, value in tensors.items() if name.startswith(_MODEL)}
        model.load_state_dict(weights)
        if _MEAN in tensors:
            dataset = StandardizedBags(dataset, tensors[_MEAN], tensors[_SCALE])
        counts = FitCounts(metadata["fold"], metadata["epochs"], metadata["best_epoch"])
        return FoldModel(model.eval(), dataset, counts)
