"""From options to a data set, a model, its AEM and its fit, with clear errors where they do not fit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

from entroreg import Dual, EntropyRegularizer, Fixed, Scheduled
from entroreg.benchmarks.devices import device_of
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.memory import require_memory
from entroreg.benchmarks.mil.options import AEMOptions, DataOptions, ModelOptions, TrainMIL
from entroreg.controllers import Controller
from entroreg.schedules import CosineSchedule
from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.attention_entropy import AttentionEntropy
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting import FitSettings, planned_steps
from entroreg.vision.mil.models import MODELS, MILModel

_MODEL, _FIT = range(2)  # consumers of random numbers
_TRAINED = 16  # bytes of a parameter, its gradient and AdamW's two moments


def open_dataset(options: DataOptions) -> BagDataset:
    """Return the data set of a run, checked as a whole.

    Raises:
        DataError: the data cannot be trained on.
    """
    if options.classic:
        from entroreg.vision.mil.data.classic_csv import read_classic_csv

        return read_classic_csv(options.features)
    from entroreg.vision.mil.files.feature_folder import open_features

    budget = int(options.memory_budget * 2**30)
    return open_features(options.features, options.labels, by=options.by, memory_budget_bytes=budget)


def resolve_device(name: str) -> torch.device:
    """Return a torch device; of several processes on one machine each has a GPU of its own.

    Args:
        name: auto, cpu, cuda or cuda:1.

    Raises:
        UserError: there is no such device.
    """
    device = device_of(name)
    if str(device) == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def new_model(options: ModelOptions, dataset: BagDataset, seed: int, fold: int) -> MILModel:
    """Return a freshly initialised model on the CPU, the same for a seed and fold.

    Raises:
        UserError: the options do not fit the model.
    """
    settings: dict[str, Any] = {"hidden": options.hidden, "dropout": options.dropout}
    if options.model == "multi-head":
        settings["heads"] = options.heads
    if options.chunk_size is not None:
        settings["chunk_size"] = options.chunk_size
    with torch.random.fork_rng([]), _user_error(ValueError):
        torch.default_generator.manual_seed(_seed(seed, _MODEL, fold))
        build = partial(MODELS[options.model], dataset.in_features, len(dataset.classes), **settings)
        with torch.device("meta"):  # which takes no memory
            parameters = sum(parameter.numel() for parameter in build().parameters())
        require_memory("the model", parameters * _TRAINED, "ask for less with --hidden or --heads")
        return build()


def fit_settings(options: TrainMIL, fold: int) -> FitSettings:
    """Return the settings of a fold's fit.

    Raises:
        UserError: one is out of range.
    """
    with _user_error(ValueError):
        return FitSettings(**asdict(options.fit), seed=_seed(options.run.seed, _FIT, fold))


def new_aem(
    options: AEMOptions, dataset: BagDataset, train: Sequence[int], settings: FitSettings
) -> AttentionEntropy | None:
    """Return a fold's attention-entropy maximisation, None where lambda is 0.

    Args:
        options: of the run.
        dataset: of the run.
        train: the fold's training bags, which say how many steps a schedule has.
        settings: of the fold's fit.
    """
    if options.aem == 0.0:
        return None
    controller: Controller = Fixed(options.aem)
    if options.aem_schedule == "cosine":
        sizes = [dataset.sizes[index] for index in train]
        steps = planned_steps(sizes, [dataset.labels[index] for index in train], settings)
        controller = Scheduled(CosineSchedule(options.aem, 0.0, steps=steps))
    elif options.aem_schedule == "dual":
        rate = options.aem_learning_rate
        controller = Dual(options.aem_target, bound="lower", initial=options.aem, learning_rate=rate)
    regularizer = EntropyRegularizer(controller, sign="maximize")
    normalize = "log_n" if options.normalized else None
    return AttentionEntropy(regularizer, normalize=normalize, top_k=options.aem_top_k)


@contextmanager
def data_errors_as_user_errors() -> Iterator[None]:
    """Show data that cannot be trained on as one line."""
    with _user_error(DataError):
        yield


@contextmanager
def _user_error(kind: type[ValueError]) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise UserError(str(error)) from error


def _seed(seed: int, consumer: int, fold: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(consumer, fold)).generate_state(1)[0])
