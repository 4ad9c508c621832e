"""Labelled bags: what training needs of a data set, and the one that lies in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from entroreg.vision.data.errors import DataError


class BagPart(NamedTuple):
    """The instances of a bag that come from one slide.

    Attributes:
        slide: its name.
        start: first instance in the bag.
        stop: one after the last.
        tile_size: side of a tile in the pixels of the coordinates, or None if the file does not say.
    """

    slide: str
    start: int
    stop: int
    tile_size: int | None = None


class BagDataset(Protocol):
    """Bags with labels; everything but features, coordinates and instance labels is known without reading them."""

    @property
    def names(self) -> Sequence[str]:
        """Of each bag: its slide, or its patient where a patient's slides form one bag."""
        ...

    @property
    def patients(self) -> Sequence[str]:
        """Of each bag; splits never part a patient, and metrics are per patient."""
        ...

    @property
    def labels(self) -> Sequence[int]:
        """Of each bag: an index into ``classes``."""
        ...

    @property
    def sizes(self) -> Sequence[int]:
        """Instances of each bag."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        ...

    @property
    def in_features(self) -> int:
        """Features of an instance, D."""
        ...

    def __len__(self) -> int:
        """Return the number of bags."""
        ...

    def features(self, index: int) -> Tensor:
        """Return (N, D) of a bag, in the dtype it is stored in (float16, float32, ...)."""
        ...

    def coords(self, index: int) -> Tensor | None:
        """Return (N, 2) int64, x and y of each tile's top left corner, or None where there are none."""
        ...

    def instance_labels(self, index: int) -> Tensor | None:
        """Return (N,) boolean, True for the instances that make the bag positive, or None if unknown."""
        ...

    def parts(self, index: int) -> Sequence[BagPart]:
        """Return the slides of a bag, in the order of its instances."""
        ...


@dataclass(frozen=True)
class BagsInMemory:
    """A data set whose bags are tensors."""

    bags: Sequence[Tensor]
    """Each (N, D) floating."""
    labels: Sequence[int]
    """An index into ``classes`` for each bag."""
    classes: Sequence[str] = ("negative", "positive")
    """Names of the classes."""
    names: Sequence[str] = ()
    """Of the bags; their numbers if left out."""
    patients: Sequence[str] = ()
    """Of the bags; the bags' names if left out."""
    marked: Sequence[Tensor] = ()
    """(N,) boolean instance labels for each bag; none if left out."""
    sizes: Sequence[int] = field(init=False)
    """Instances of each bag."""
    in_features: int = field(init=False)
    """Features of an instance."""

    def __post_init__(self) -> None:
        if not self.bags:
            raise DataError("a data set must hold at least one bag, got none")
        names = self.names or [str(index) for index in range(len(self.bags))]
        for attribute, value in (
            ("names", names),
            ("patients", self.patients or names),
            ("sizes", [len(bag) for bag in self.bags]),
            ("in_features", self.bags[0].shape[1]),
        ):
            object.__setattr__(self, attribute, value)
        for attribute in ("labels", "names", "patients"):
            found = len(getattr(self, attribute))
            if found != len(self.bags):
                raise DataError(f"{attribute} must be one for each of {len(self.bags)} bags, got {found}")

    def __len__(self) -> int:
        """Return the number of bags."""
        return len(self.bags)

    def features(self, index: int) -> Tensor:
        """Return (N, D) of a bag."""
        return self.bags[index]

    def coords(self, _index: int) -> Tensor | None:
        """Return None: these bags have no places."""
        return None

    def instance_labels(self, index: int) -> Tensor | None:
        """Return (N,) boolean, or None if unknown."""
        return self.marked[index] if self.marked else None

    def parts(self, index: int) -> Sequence[BagPart]:
        """Return the bag as one slide of its own name."""
        return [BagPart(self.names[index], 0, self.sizes[index])]
