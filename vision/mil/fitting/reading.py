"""From a data set to packed bags on the device: out of one resident matrix if it fits, else bag by bag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting.batching import Indices

_CPU_BYTES = 256 * 2**20  # a copy of the features in one matrix; larger sets are read where they lie
_CUDA_SHARE = 0.5  # of the free memory
_LONG = 64  # mean length from which copying slices beats picking rows: measured on a CPU
_Item = TypeVar("_Item")


class BagReader(Protocol):
    """Where a fit gets its batches from."""

    resident: bool
    """Whether reading is no more than a copy within the device's memory."""

    def read(self, indices: Indices, rows: Sequence[Indices | None]) -> Bags:
        """Return bags of a data set packed on the device, in the dtype they are stored in.

        Args:
            indices: (B,) of the bags in the data set.
            rows: for each, which of its instances, or None for all.
        """
        ...


def reader_for(dataset: BagDataset, device: torch.device | str) -> BagReader:
    """Return the fastest reader that memory allows.

    Args:
        dataset: any.
        device: where the bags go. Up to 256 MiB of features are copied into one matrix on a CPU, and on a GPU up to
            half of its free memory.
    """
    device = torch.device(device)
    size = sum(dataset.sizes) * dataset.in_features * dataset.features(0).element_size()
    limit = _CUDA_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _CPU_BYTES
    return ResidentBags(dataset, device) if size <= limit else StoredBags(dataset, device)


class ResidentBags:
    """All bags of a data set in one matrix on the device.

    Args:
        dataset: its features are copied.
        device: where to.
    """

    resident = True

    def __init__(self, dataset: BagDataset, device: torch.device | str) -> None:
        self._sizes = np.asarray(dataset.sizes, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        first = dataset.features(0)
        self._matrix = torch.empty(int(self._sizes.sum()), dataset.in_features, dtype=first.dtype, device=device)
        for index, (start, size) in enumerate(zip(self._starts.tolist(), self._sizes.tolist(), strict=True)):
            self._matrix[start : start + size] = dataset.features(index)

    def read(self, indices: Indices, rows: Sequence[Indices | None]) -> Bags:
        """Return the bags packed; a single whole bag is a view."""
        starts, sizes = self._starts[indices], self._sizes[indices]
        if any(own is not None for own in rows):
            parts = [
                start + (np.arange(size) if own is None else own)
                for start, size, own in zip(starts, sizes, rows, strict=True)
            ]
            sizes = np.array([len(part) for part in parts])
            return _bags(self._pick(np.concatenate(parts)), sizes)
        if len(sizes) == 1 or sizes.sum() >= _LONG * len(sizes):
            slices = zip(starts.tolist(), (starts + sizes).tolist(), strict=True)
            return _bags(_joined([self._matrix[begin:end] for begin, end in slices]), sizes)
        # Row m of bag b is starts[b] + m - (rows of the bags before b).
        shifts = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        return _bags(self._pick(shifts + np.arange(len(shifts))), sizes)

    def _pick(self, rows: Indices) -> Tensor:
        return self._matrix.index_select(0, torch.from_numpy(rows).to(self._matrix.device, non_blocking=True))


class StoredBags:
    """The bags of a data set as it returns them, one at a time.

    Args:
        dataset: read at each access.
        device: where the bags go.
    """

    resident = False

    def __init__(self, dataset: BagDataset, device: torch.device | str) -> None:
        self._dataset = dataset
        self._device = torch.device(device)

    def read(self, indices: Indices, rows: Sequence[Indices | None]) -> Bags:
        """Return the bags packed; on a CPU a single whole bag is the data set's own tensor."""
        parts = []
        for index, own in zip(indices.tolist(), rows, strict=True):
            features = self._dataset.features(index)
            parts.append(features if own is None else features.index_select(0, torch.from_numpy(own)))
        features = _joined(parts)
        if self._device.type == "cuda":  # from pinned memory the copy runs beside the GPU's work
            features = features.pin_memory().to(self._device, non_blocking=True)
        return _bags(features, np.array([len(part) for part in parts]))


def read_ahead(jobs: Iterable[Callable[[], _Item]]) -> Iterator[_Item]:
    """Return the results of jobs in their order, the next one running in a thread while one is used.

    Args:
        jobs: called one at a time.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        running: Future[_Item] | None = None
        for job in jobs:
            following = pool.submit(job)
            if running is not None:
                yield running.result()
            running = following
        if running is not None:
            yield running.result()


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _bags(features: Tensor, sizes: Indices) -> Bags:
    """Pack what needs no checking: the data set vouches for widths, dtypes and sizes."""
    lengths = tuple(sizes.tolist())
    offsets = torch.tensor([0, *accumulate(lengths)])
    return Bags(features, offsets.to(features.device, non_blocking=True), lengths)
