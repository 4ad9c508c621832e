"""A stream of corrupted images, a classifier for it, and the methods that adapt it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from entroreg import checkpoint
from entroreg.adaptation import Adapter, eata, memo, sar, tent, use_batch_statistics
from entroreg.benchmarks.made_once import made_once
from entroreg.vision.distillation.attacks import Attack
from entroreg.vision.distillation.augmentation import crop_and_flip
from entroreg.vision.distillation.settings import DistillationSettings, OptimizerSettings
from entroreg.vision.distillation.training import train
from entroreg.vision.images.corruptions import MNIST_C, corrupt
from entroreg.vision.images.data import ImageSet, as_float
from entroreg.vision.images.networks import SmallConvNet

_FISHER_IMAGES, _VIEWS = 2000, 16
_STATE = "classifier"
Predict = Callable[[Tensor], Tensor]


class Stream(NamedTuple):
    """Images as they arrive.

    Attributes:
        batches: of images (B, C, H, W), floats.
        labels: (N,) of all of them in order, never shown to a method.
    """

    batches: list[Tensor]
    labels: Tensor


def make_stream(
    images: ImageSet, corruption: str, severity: int, batch: int, *, by_class: bool, seed: int
) -> Stream:
    """Return the corrupted images in batches.

    Args:
        images: of the test part.
        corruption: of MNIST-C; ``none`` leaves them.
        severity: 1 to 5.
        batch: images at once; the last batch may have fewer.
        by_class: whether they arrive class by class, else shuffled.
        seed: of the noise and the order.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images.labels), generator=generator)
    if by_class:
        order = order[images.labels[order].argsort(stable=True)]
    floats = as_float(images.images[order])
    if corruption != "none":
        floats = corrupt(floats, corruption, severity, generator, MNIST_C)
    return Stream(list(torch.split(floats, batch)), images.labels[order])


def trained_classifier(folder: Path, images: ImageSet, epochs: int, seed: int) -> nn.Module:
    """Return the classifier of a folder, in evaluation mode, trained first if it is not there.

    Args:
        folder: of the classifier.
        images: to train on.
        epochs: of training.
        seed: of its first weights and the order of images.

    Raises:
        ValueError: the folder holds a classifier of other settings.
    """
    settings = {"images": len(images.labels), "epochs": epochs, "seed": seed}
    with torch.random.fork_rng(devices=[]):  # modules draw their first weights from the global generator
        torch.manual_seed(seed)
        network = SmallConvNet(images.images.shape[1], images.images.shape[2], images.classes)
    with made_once(folder) as fresh:
        if fresh is not None:
            optimizer = OptimizerSettings("adam", learning_rate=2e-3, schedule="cosine", weight_decay=0.0)
            plain = DistillationSettings("plain", Attack(0.1, 0.025), optimizer, epochs=epochs, seed=seed)
            train(network, images, plain)
            checkpoint.save_checkpoint(fresh / _STATE, network.state_dict(), {"settings": settings})
    tensors, metadata = checkpoint.load_checkpoint(folder / _STATE)
    if metadata["settings"] != settings:
        raise ValueError(f"{folder} must hold a classifier of {settings}, got {metadata['settings']}: remove it")
    network.load_state_dict(tensors)
    return network.eval()


def method(name: str, network: nn.Module, source: ImageSet, seed: int) -> Predict:
    """Return what predicts a batch, and adapts to it if the method does.

    Args:
        name: of `METHODS`.
        network: trained; a copy of it is adapted.
        source: training images, of which EATA sees 2,000 without labels.
        seed: of augmentations and of EATA's images.
    """
    return METHODS[name](copy.deepcopy(network), source, torch.Generator().manual_seed(seed))


def run_stream(predict: Predict, stream: Stream) -> dict[str, Any]:
    """Return what a method predicted over a stream, and what a batch took.

    Args:
        predict: from images to logits.
        stream: whose labels are compared afterwards.
    """
    guesses, seconds = [], []
    for images in stream.batches:
        started = time.perf_counter()
        guesses.append(predict(images).argmax(dim=-1))
        seconds.append(time.perf_counter() - started)
    predicted = torch.cat(guesses)
    wrong = (predicted != stream.labels[: len(predicted)]).double()
    quarter = max(1, len(wrong) // 4)
    last = predicted[-quarter:]
    return {
        "error": float(wrong.mean()),
        "first_quarter_error": float(wrong[:quarter].mean()),
        "last_quarter_error": float(wrong[-quarter:].mean()),
        "largest_class_share": float(last.bincount().max()) / len(last),
        "running_error": [float(part.mean()) for part in wrong.tensor_split(min(20, len(wrong)))],
        "batch_ms": 1e3 * float(np.median(seconds)),
        "images": len(predicted),
    }


def _none(network: nn.Module, _: ImageSet, __: torch.Generator) -> Predict:
    return torch.no_grad()(network)


def _norm(network: nn.Module, _: ImageSet, __: torch.Generator) -> Predict:
    use_batch_statistics(network)
    return torch.no_grad()(network)


def _tent(network: nn.Module, _: ImageSet, __: torch.Generator) -> Predict:
    return _adapting(tent(network))


def _eata(network: nn.Module, source: ImageSet, generator: torch.Generator) -> Predict:
    chosen = torch.randperm(len(source.labels), generator=generator)[:_FISHER_IMAGES]
    batches = torch.split(as_float(source.images[chosen]), 64)
    # The authors' settings for CIFAR-10.
    return _adapting(eata(network, source.classes, batches, learning_rate=5e-3, similarity=0.4, beta=1.0))


def _sar(network: nn.Module, source: ImageSet, _: torch.Generator) -> Predict:
    return _adapting(sar(network, source.classes))


def _memo(network: nn.Module, _: ImageSet, generator: torch.Generator) -> Predict:
    adapter = memo(network, lambda one: crop_and_flip(one.expand(_VIEWS, -1, -1, -1), generator))
    return lambda images: torch.cat([adapter.adapt(one[None]).output for one in images])


def _adapting(adapter: Adapter) -> Predict:
    def predict(images: Tensor) -> Tensor:
        output: Tensor = adapter.adapt(images).output
        return output

    return predict


METHODS: dict[str, Callable[[nn.Module, ImageSet, torch.Generator], Predict]] = {
    "none": _none,
    "norm": _norm,
    "tent": _tent,
    "eata": _eata,
    "sar": _sar,
    "memo": _memo,
}
