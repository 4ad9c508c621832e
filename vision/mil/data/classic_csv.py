"""The classic MIL data sets: a CSV row for each instance, with its bag's label, its bag and its features."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.dataset import BagsInMemory

_LABEL, _BAG, _FEATURES = 0, 1, 2
_WHOLE = 2.0**53  # from here on neighbouring whole numbers are one float64, and their bags would become one


def read_classic_csv(path: str | os.PathLike[str]) -> BagsInMemory:
    """Return the bags of a classic CSV file, as float32, in the order in which they begin.

    Args:
        path: rows of ``label, bag, feature, feature, ...`` without a header; label and bag are whole numbers below
            2^53.

    Returns:
        The data set; its classes are the labels in their order, its names the file's bag numbers.

    Raises:
        DataError: the file is empty, a row has another length or no number, a number is not finite in float32, a
            label or bag is not whole, a bag has two labels, or there is one class only.
    """
    file = Path(path)
    rows = _rows(file)
    names, first, bag_of = np.unique(rows[:, _BAG], return_index=True, return_inverse=True)
    bags, labels, order = [], [], np.argsort(first)
    for bag in order:
        places = np.flatnonzero(bag_of == bag)
        found = np.unique(rows[places, _LABEL])
        if len(found) != 1:
            listed = ", ".join(f"{label:.0f}" for label in found)
            raise DataError(f"{file}, bag {names[bag]:.0f} must have one label, got {listed}")
        bags.append(torch.from_numpy(rows[places, _FEATURES:].astype(np.float32)))
        labels.append(float(found[0]))
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise DataError(f"{file} must have bags of two classes at least, got only {classes[0]:.0f}")
    return BagsInMemory(
        bags,
        [classes.index(label) for label in labels],
        classes=[f"{label:.0f}" for label in classes],
        names=[f"{names[bag]:.0f}" for bag in order],
    )


def _rows(file: Path) -> NDArray[np.float64]:
    """Return (instances, 2 + features)."""
    try:
        numbered = enumerate(file.read_text("utf-8-sig").splitlines(), 1)
        lines = [(number, line) for number, line in numbered if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} must be a CSV file of label, bag, features, got: {error}") from error
    if not lines:
        raise DataError(f"{file} must hold a row for each instance, got an empty file")
    width = lines[0][1].count(",") + 1
    if width <= _FEATURES:
        raise DataError(f"{file} must have columns label, bag and features, got {width} column(s)")
    parsed = np.empty((len(lines), width))
    for row, (number, line) in zip(parsed, lines, strict=True):
        row[:] = _numbers(f"{file}, row {number}", line, width)
    _require_values(file, parsed, [number for number, _ in lines])
    return parsed


def _numbers(where: str, line: str, width: int) -> list[float]:
    cells = line.split(",")
    if len(cells) != width:
        raise DataError(f"{where} must have {width} columns as the first one, got {len(cells)}")
    try:
        return [float(cell) for cell in cells]
    except ValueError as error:
        raise DataError(f"{where} must hold numbers, got: {error}") from error


def _require_values(file: Path, rows: NDArray[np.float64], numbers: list[int]) -> None:
    """Refuse what is not finite in float32, and labels and bags that are not whole or cannot be told apart."""
    bad = ~(np.abs(rows) <= np.finfo(np.float32).max)  # so that NaN is bad, too
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"{file}, row {numbers[row]}, column {column + 1} must be finite in float32, got {rows[row, column]:g}"
        )
    broken = (rows[:, :_FEATURES] % 1.0 != 0.0) | (np.abs(rows[:, :_FEATURES]) >= _WHOLE)
    if broken.any():
        row, column = np.argwhere(broken)[0]
        raise DataError(
            f"{file}, row {numbers[row]}, column {column + 1} must be a whole number below 2^53, the label or the "
            f"bag, got {rows[row, column]:g}"
        )
