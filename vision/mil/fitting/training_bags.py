"""The training bags of a fold, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting.batching import Batch, Indices, drawn_rows, epoch_batches
from entroreg.vision.mil.fitting.culprits import culprits_among
from entroreg.vision.mil.fitting.distributed import Processes
from entroreg.vision.mil.fitting.reading import BagReader, read_ahead
from entroreg.vision.mil.fitting.settings import FitSettings
from entroreg.vision.mil.fitting.streams import INSTANCES, stream


class TrainingBatch(NamedTuple):
    """This process's part of a batch.

    Attributes:
        bags: packed; None where the batch has fewer bags than there are processes.
        labels: (B,) their classes.
        batch: the whole batch.
    """

    bags: Bags | None
    labels: Indices
    batch: Batch


class TrainingBags:
    """Reads a fold's training bags in the order of each epoch.

    Args:
        dataset: with the bags.
        indices: of the training bags.
        reader: of the data set.
        settings: of the fit.
        processes: that share each batch.
    """

    def __init__(
        self,
        dataset: BagDataset,
        indices: Sequence[int],
        reader: BagReader,
        settings: FitSettings,
        processes: Processes,
    ) -> None:
        self.indices = np.asarray(indices, dtype=np.int64)
        self.sizes = np.asarray(dataset.sizes, dtype=np.int64)[self.indices]
        self.labels = np.asarray(dataset.labels, dtype=np.int64)[self.indices]
        self._dataset = dataset
        self._reader = reader
        self._settings = settings
        self._processes = processes

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Return an epoch's batches, read ahead where reading takes time.

        Args:
            number: of the epoch, from 0.
        """
        generator = stream(self._settings.seed, INSTANCES, number)
        batches = epoch_batches(self.sizes, self.labels, self._settings, number)
        jobs = (partial(self._read, batch, generator) for batch in batches)
        return (job() for job in jobs) if self._reader.resident else read_ahead(jobs)

    def culprits(self, places: Indices) -> str:
        """Return words for the bags of a step that went wrong, and what to do.

        Args:
            places: of the bags in the list of training bags.
        """
        return culprits_among(self._dataset, self.indices[places].tolist())

    def _read(self, batch: Batch, generator: np.random.Generator) -> TrainingBatch:
        # Every process draws for all bags of the batch, so that the draws do not depend on how many share it.
        rows = [drawn_rows(size, self._settings, generator) for size in self.sizes[batch.bags].tolist()]
        places = self._processes.own(np.arange(len(batch.bags)))
        own = batch.bags[places]
        bags = self._reader.read(self.indices[own], [rows[place] for place in places]) if len(own) else None
        return TrainingBatch(bags, self.labels[own], batch)
