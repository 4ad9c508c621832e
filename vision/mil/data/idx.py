"""The idx files of MNIST and its kin."""

from __future__ import annotations

import gzip
import math
import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.mil.dataset import DataError

_UNSIGNED_BYTES = 0x08


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Return the array of an idx file of unsigned bytes, plain or gzipped.

    Args:
        path: such as ``train-images-idx3-ubyte`` or ``train-labels-idx1-ubyte.gz``.

    Returns:
        Images (n, 28, 28) or labels (n,).

    Raises:
        DataError: the file is truncated or of another format.
    """
    file = Path(path)
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{file} must be a gzipped idx file, got a damaged one: {error}") from error
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
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def read_digits(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (n, 28, 28) and labels (n,) of MNIST or Fashion-MNIST.

    Args:
        folder: of a fetched data set.
        part: ``train`` or ``t10k``.

    Raises:
        DataError: a file is missing, damaged, or the two do not fit.
    """
    found = []
    for kind in ("images-idx3", "labels-idx1"):
        paths = sorted(folder.glob(f"{part}-{kind}-ubyte*"))
        if not paths:
            raise DataError(f"{folder} must hold {part}-{kind}-ubyte, got none: remove the folder and fetch again")
        found.append(read_idx(paths[0]))
    images, labels = found
    if len(images) != len(labels):
        raise DataError(f"{folder} must hold a label for each of {len(images)} images, got {len(labels)}")
    return images, labels
