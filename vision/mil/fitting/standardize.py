"""Features shifted and scaled to mean 0 and deviation 1 over the instances of some bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from entroreg.vision.mil.dataset import BagDataset, BagPart


@dataclass(frozen=True)
class StandardizedBags:
    """A data set with standardised features, else as it is; made by `standardized`."""

    dataset: BagDataset
    """What is standardised."""
    mean: Tensor = field(repr=False)
    """(D,) float32, subtracted from each instance."""
    scale: Tensor = field(repr=False)
    """(D,) float32, by which each instance is divided."""

    @property
    def names(self) -> Sequence[str]:
        """Of each bag."""
        return self.dataset.names

    @property
    def patients(self) -> Sequence[str]:
        """Of each bag."""
        return self.dataset.patients

    @property
    def labels(self) -> Sequence[int]:
        """Of each bag."""
        return self.dataset.labels

    @property
    def sizes(self) -> Sequence[int]:
        """Instances of each bag."""
        return self.dataset.sizes

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return self.dataset.classes

    @property
    def in_features(self) -> int:
        """Features of an instance."""
        return self.dataset.in_features

    def __len__(self) -> int:
        """Return the number of bags."""
        return len(self.dataset)

    def features(self, index: int) -> Tensor:
        """Return (N, D) float32 of a bag, computed at each call."""
        return (self.dataset.features(index).float() - self.mean) / self.scale

    def coords(self, index: int) -> Tensor | None:
        """Return (N, 2) int64, or None where there are none."""
        return self.dataset.coords(index)

    def instance_labels(self, index: int) -> Tensor | None:
        """Return (N,) boolean, or None if unknown."""
        return self.dataset.instance_labels(index)

    def parts(self, index: int) -> Sequence[BagPart]:
        """Return the slides of a bag."""
        return self.dataset.parts(index)


def standardized(dataset: BagDataset, indices: Sequence[int]) -> StandardizedBags:
    """Return a data set whose features have mean 0 and deviation 1 over all instances of some bags.

    A feature that is constant there is only shifted.

    Args:
        dataset: any.
        indices: of the bags that are measured, the training bags: test bags must not have a say.

    Example:
        >>> from entroreg.vision.mil import BagsInMemory
        >>> dataset = BagsInMemory([torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0]])], labels=[0, 1])
        >>> standardized(dataset, [0]).features(1)
        tensor([[3.]])
    """
    count = sum(dataset.sizes[index] for index in indices)
    mean = sum((dataset.features(index).double().sum(dim=0) for index in indices), torch.zeros(())) / count
    squares = (((dataset.features(index).double() - mean) ** 2).sum(dim=0) for index in indices)
    deviation = (sum(squares, torch.zeros(())) / count).sqrt()
    return StandardizedBags(dataset, mean.float(), torch.where(deviation > 0, deviation, 1.0).float())
