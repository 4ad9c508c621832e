"""The idx files of MNIST and its kin."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.data.errors import DataError

_UNSIGNED_BYTES = 0x08
_GZIP = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Return the array of an idx file of unsigned bytes, plain or gzipped.

    Args:
        path: such as ``train-images-idx3-ubyte`` or ``train-labels-idx1-ubyte.gz``.

    Returns:
        Images (n, 28, 28) or labels (n,), not writable.

    Raises:
        DataError: the file is missing, truncated or of another format.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} must be an idx file, got none or a damaged one: {error}") from error
    if len(data) < 4 or data[:2] != b"\x00\x00" or data[2] != _UNSIGNED_BYTES:
        raise DataError(f"{file} must be an idx file of unsigned bytes, got one that begins with {data[:4].hex()}")
    begin = 4 + 4 * data[3]
    if len(data) < begin:
        raise DataError(f"{file} must have {begin} bytes of header, got {len(data)}: the file is truncated")
    shape = struct.unpack(f">{data[3]}I", data[4:begin])
    if len(data) != begin + math.prod(shape):
        raise DataError(
            f"{file} must have {begin + math.prod(shape)} bytes, got {len(data)}: the file is truncated or not one"
        )
    try:
        return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)
    except ValueError as error:  # too many dimensions, or no bytes at all in a shape that no array has
        raise DataError(f"{file} must have the shape of an array, got {shape}") from error


def read_digits(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (n, h, w) and labels (n,) of MNIST or Fashion-MNIST.

    Args:
        folder: of a fetched data set.
        part: ``train`` or ``t10k``.

    Raises:
        DataError: a file is missing, damaged, or the two do not fit.
    """
    images, labels = (_read_one(folder, f"{part}-{kind}", dim) for kind, dim in (("images", 3), ("labels", 1)))
    if len(images) != len(labels):
        raise DataError(f"{folder} must hold a label for each of {len(images)} images, got {len(labels)}")
    return images, labels


def _read_one(folder: Path, stem: str, dimensions: int) -> NDArray[np.uint8]:
    name = f"{stem}-idx{dimensions}-ubyte"
    paths = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
    if not paths:
        raise DataError(f"{folder} must hold {name}, got none: remove the folder and fetch again")
    found = read_idx(paths[0])
    if found.ndim != dimensions:
        raise DataError(f"{paths[0]} must have {dimensions} dimensions, got shape {found.shape}")
    return found
