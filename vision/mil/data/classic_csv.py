"""The classic MIL data sets: a CSV row for each instance, with its bag's label, its bag and its features."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from entroreg.vision.mil.dataset import BagsInMemory, DataError

_LABEL, _BAG = 0, 1


def read_classic_csv(path: str | os.PathLike[str]) -> BagsInMemory:
    """Return the bags of a classic CSV file, as float32, in the order in which they begin.

    Args:
        path: rows of ``label, bag, feature, feature, ...`` without a header; label and bag are whole numbers.

    Returns:
        The data set; its classes are the labels in their order, its names the file's bag numbers.

    Raises:
        DataError: the file is empty, a row has another length or no number, a feature is not finite, a bag has two
            labels, or there is one class only.
    """
    file = Path(path)
    rows = _rows(file)
    features = rows[:, 2:]
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise DataError(f"{file}, row {row + 1}: feature {column + 1} must be finite, got {features[row, column]}")
    names, first, bag_of = np.unique(rows[:, _BAG], return_index=True, return_inverse=True)
    bags, labels = [], []
    for bag in np.argsort(first):
        places = np.flatnonzero(bag_of == bag)
        found = np.unique(rows[places, _LABEL])
        if len(found) != 1:
            raise DataError(
                f"{file}, bag {names[bag]:g} must have one label, got {', '.join(f'{x:g}' for x in found)}"
            )
        bags.append(torch.from_numpy(features[places].astype(np.float32)))
        labels.append(float(found[0]))
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise DataError(f"{file} must have bags of two classes at least, got only {classes[0]:g}")
    return BagsInMemory(
        bags,
        [classes.index(label) for label in labels],
        classes=[f"{label:g}" for label in classes],
        names=[f"{names[bag]:g}" for bag in np.argsort(first)],
    )


def _rows(file: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return (instances, 2 + features) float64."""
    try:
        lines = [line for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} must be a CSV file of label, bag, features, got: {error}") from error
    if not lines:
        raise DataError(f"{file} must hold a row for each instance, got an empty file")
    width = lines[0].count(",") + 1
    if width < 3:
        raise DataError(f"{file} must have columns label, bag and features, got {width} column(s)")
    parsed = np.empty((len(lines), width))
    for number, line in enumerate(lines):
        cells = line.split(",")
        if len(cells) != width:
            raise DataError(f"{file}, row {number + 1} must have {width} columns as row 1, got {len(cells)}")
        try:
            parsed[number] = [float(cell) for cell in cells]
        except ValueError as error:
            raise DataError(f"{file}, row {number + 1} must hold numbers, got: {error}") from error
    return parsed
