"""A folder of feature files with its labels as a data set, checked as a whole before anything is trained."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.dataset import BagPart
from entroreg.vision.mil.files.labels import SlideLabels, class_names, read_labels
from entroreg.vision.mil.files.matching import find_slides, labelled_slides, own_labels, require_alike
from entroreg.vision.mil.files.slide import FeatureSlide

_Bag = tuple[FeatureSlide, ...]


@dataclass(frozen=True)
class FeatureFolder:
    """A data set whose bags lie in feature files; made by `open_features`.

    Satisfies `BagDataset`. Coordinates and instance labels are read at every call.
    """

    names: tuple[str, ...]
    """Of each bag: its slide, or its patient where a patient's slides form one bag."""
    patients: tuple[str, ...]
    """Of each bag; the slide where the labels name no patients."""
    labels: tuple[int, ...]
    """Of each bag: an index into ``classes``."""
    classes: tuple[str, ...]
    """Names of the classes."""
    slides: tuple[_Bag, ...] = field(repr=False)
    """Of each bag, in the order of its instances."""
    resident: Mapping[int, Tensor] = field(repr=False)
    """Bag to (N, D): the features that are held in memory."""

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Instances of each bag."""
        return tuple(_instances(bag) for bag in self.slides)

    @property
    def in_features(self) -> int:
        """Features of an instance."""
        return self.slides[0][0].features.shape[1]

    @property
    def resident_bytes(self) -> int:
        """Bytes of the features that are held in memory; all others are mapped or read when asked for."""
        return sum(features.nbytes for features in self.resident.values())

    def __len__(self) -> int:
        """Return the number of bags."""
        return len(self.slides)

    def features(self, index: int) -> Tensor:
        """Return (N, D) of a bag, in the dtype it is stored in.

        A resident bag is returned itself: do not write into it. Any other is a view of its file where the file
        allows it, and a copy where the data are in chunks or the bag has several slides.

        Raises:
            DataError: a file cannot be read any more.
        """
        if index in self.resident:
            return self.resident[index]
        parts = [slide.features.rows(0, slide.features.shape[0]) for slide in self.slides[index]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def coords(self, index: int) -> Tensor | None:
        """Return (N, 2) int64, or None where a slide of the bag has none.

        Raises:
            DataError: a file cannot be read any more.
        """
        return _joined(slide.coords() for slide in self.slides[index])

    def instance_labels(self, index: int) -> Tensor | None:
        """Return (N,) boolean, or None where a slide of the bag has none.

        Raises:
            DataError: a file cannot be read any more.
        """
        return _joined(slide.instance_labels() for slide in self.slides[index])

    def parts(self, index: int) -> Sequence[BagPart]:
        """Return the slides of a bag, in the order of its instances."""
        bag = self.slides[index]
        bounds = [0, *itertools.accumulate(slide.features.shape[0] for slide in bag)]
        return [
            BagPart(slide.slide, start, stop, slide.tile_size)
            for slide, (start, stop) in zip(bag, itertools.pairwise(bounds), strict=True)
        ]


def open_features(
    path: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    *,
    by: Literal["slide", "patient"] = "slide",
    classes: Sequence[str] | None = None,
    memory_budget_bytes: int = 2 * 2**30,
    ignore_unlabelled: bool = False,
    ignore_without_features: bool = False,
) -> FeatureFolder:
    """Return the data set of a folder of feature files; everything that could fail later is checked here.

    Every feature is read once, so opening takes as long as reading the folder.

    Args:
        path: a folder, searched with all folders in it for .h5, .hdf5, .pt and .pth files, or one such file.
        labels: a CSV file as `read_labels` takes it; if left out, the labels that the files themselves give.
        by: what forms a bag: each slide, or all slides of a patient.
        classes: names of the classes in their order; sorted if left out.
        memory_budget_bytes: bags are held in memory as long as they fit into this, in the order of their names. All
            others are memory-mapped where the file allows it, else read at each access.
        ignore_unlabelled: leave out slides without a label instead of refusing them.
        ignore_without_features: leave out labels without a feature file instead of refusing them.

    Returns:
        The data set, its bags in the order of their names.

    Raises:
        ValueError: ``by`` is another word, or the budget is negative.
        DataError: a file is damaged or of no known layout; a bag is empty; features are NaN or infinite, or differ
            in width or dtype between slides; coordinates or instance labels do not fit the features; labels and
            files do not match, or there is but one class; a patient's slides form one bag and differ in class.
        ModuleNotFoundError: there are HDF5 files and h5py is not installed.
    """
    if by not in ("slide", "patient"):
        raise ValueError(f"by must be 'slide' or 'patient', got {by!r}")
    if memory_budget_bytes < 0:
        raise ValueError(f"memory_budget_bytes must be 0 or more, got {memory_budget_bytes}")
    found = find_slides(Path(path))
    table = own_labels(Path(path), found) if labels is None else read_labels(Path(labels))
    names = labelled_slides(
        Path(path),
        found,
        table,
        ignore_unlabelled=ignore_unlabelled,
        ignore_without_features=ignore_without_features,
    )
    require_alike([found[name] for name in names])
    order = class_names(table.source, [table.class_of[name] for name in names], classes)
    groups = _by_patient(table, names) if by == "patient" else {name: [name] for name in names}
    first = [group[0] for group in groups.values()]
    patient_of = table.patient_of or {name: name for name in names}
    bags = tuple(tuple(found[name] for name in group) for group in groups.values())
    return FeatureFolder(
        tuple(groups),
        tuple(patient_of[name] for name in first),
        tuple(order.index(table.class_of[name]) for name in first),
        order,
        bags,
        _check_and_keep(bags, memory_budget_bytes),
    )


def _by_patient(table: SlideLabels, names: Sequence[str]) -> dict[str, list[str]]:
    if table.patient_of is None:
        raise DataError(
            f"{table.source} must have a column 'patient' where a patient's slides form one bag, got none: "
            "add it or let each slide be a bag"
        )
    groups: dict[str, list[str]] = {}
    for name in names:
        first, *_ = group = groups.setdefault(table.patient_of[name], [name])
        if name != first:
            group.append(name)
        if table.class_of[name] != table.class_of[first]:
            raise DataError(
                f"{table.source}: slides of patient {table.patient_of[name]!r} must be of one class, got "
                f"{table.class_of[first]!r} for {first!r} and {table.class_of[name]!r} for {name!r}: "
                "let each slide be a bag"
            )
    return dict(sorted(groups.items()))


def _check_and_keep(bags: Sequence[_Bag], budget: int) -> dict[int, Tensor]:
    """Return the bags that fit into the budget, having read all."""
    resident: dict[int, Tensor] = {}
    for index, bag in enumerate(bags):
        features = bag[0].features
        shape = (_instances(bag), features.shape[1])
        needed = shape[0] * shape[1] * features.dtype.itemsize
        kept = torch.empty(shape, dtype=features.dtype) if needed <= budget else None
        begin = 0
        for slide in bag:
            end = begin + slide.features.shape[0]
            slide.check(None if kept is None else kept[begin:end])
            begin = end
        if kept is not None:
            resident[index] = kept
            budget -= needed
    return resident


def _instances(bag: _Bag) -> int:
    return sum(slide.features.shape[0] for slide in bag)


def _joined(parts: Iterable[Tensor | None]) -> Tensor | None:
    found = []
    for part in parts:
        if part is None:
            return None
        found.append(part)
    return torch.cat(found)
