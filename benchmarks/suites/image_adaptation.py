"""Adaptation at test time on streams of corrupted images: TENT, EATA, SAR and MEMO beside no adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.image_adaptation import report
from entroreg.benchmarks.readings import Quantity, Reading, of_seed

NAME = "image-adaptation"
ERROR = Quantity("error over the stream", better="lower")
BATCH_TIME = Quantity("batch", "ms", "lower", is_time=True)
METHODS = ("none", "norm", "tent", "eata", "sar", "memo")
SEVERITY = 5


class Task(NamedTuple):
    """A stream.

    Attributes:
        corruption: of MNIST-C, or none.
        by_class: whether images arrive class by class.
    """

    corruption: str
    by_class: bool = False


TASKS = {
    **{name: Task(name) for name in ("gaussian-noise", "shot-noise", "impulse-noise", "brightness", "pixelate")},
    "clean": Task("none"),
    "impulse-by-class": Task("impulse-noise", by_class=True),
    "contrast": Task("contrast"),
    "speckle-noise": Task("speckle-noise"),
}


class Size(NamedTuple):
    """Of a preset.

    Attributes:
        seeds: classifiers.
        epochs: of their training.
        images: of the training part; all if None.
        stream: images of a stream, the first of the test part.
        memo_images: of a stream for MEMO, which takes a step for each image.
        tasks: how many of them.
    """

    seeds: int
    epochs: int
    images: int | None
    stream: int
    memo_images: int
    tasks: int


SIZES = {
    "smoke": Size(seeds=1, epochs=1, images=256, stream=256, memo_images=4, tasks=1),
    "small": Size(seeds=3, epochs=4, images=None, stream=5000, memo_images=200, tasks=5),
    "paper": Size(seeds=10, epochs=20, images=None, stream=10_000, memo_images=10_000, tasks=9),
}
BATCH = 64  # images at once

summarise = report.summarise
as_text = report.as_text
plot = report.plot


def cells(preset: str) -> list[Cell]:
    """Return a cell for each classifier and method on each stream."""
    size = SIZES[preset]
    methods = METHODS if size.tasks > 1 else METHODS[2:4]
    return [
        Cell(NAME, preset, task, method, seed)
        for seed in range(size.seeds)
        for task in list(TASKS)[: size.tasks]
        for method in methods
    ]


def run(cell: Cell, folder: Path) -> None:
    """Run one method over one stream, on one thread, and write the result."""
    import torch

    from entroreg.benchmarks.image_adaptation.streams import make_stream, method, run_stream, trained_classifier
    from entroreg.vision.images.data import load_images

    torch.set_num_threads(1)
    size, task = SIZES[cell.preset], TASKS[cell.task]
    training, test = (load_images("fashion-mnist", part) for part in ("train", "test"))
    if size.images is not None:
        training = training.first(size.images)
    classifiers = folder.parents[2] / "classifiers"
    network = trained_classifier(classifiers / f"seed-{cell.seed}", training, size.epochs, cell.seed)
    stream = make_stream(
        test.first(size.stream), task.corruption, SEVERITY, BATCH, by_class=task.by_class, seed=cell.seed
    )
    if cell.method == "memo":
        # Evenly over the stream, so that one that arrives by class still has all of them.
        chosen = torch.linspace(0, len(stream.labels) - 1, min(size.memo_images, len(stream.labels))).long()
        images = torch.cat(stream.batches)[chosen]
        stream = stream._replace(batches=list(torch.split(images, BATCH)), labels=stream.labels[chosen])
    found = run_stream(method(cell.method, network, training, cell.seed), stream)
    write_result(folder, {"method": cell.method, "seed": cell.seed, "score": found["error"], **found})


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured."""
    return of_seed(cell, {ERROR: cell["score"], BATCH_TIME: cell["batch_ms"]})
