"""What was embedded, to be looked at: the grid of tiles over a slide's thumbnail."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entroreg import atomic

_DIMMED = 0.45  # of the contrast, where no tile is
_LINE = (0, 120, 60)


def draw_tiles(
    thumbnail: NDArray[np.uint8], corners: NDArray[np.int64], side: int, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return (h, w, 3) uint8, a thumbnail with its tiles outlined, and pale where there is none.

    Args:
        thumbnail: (h, w, 3) uint8, of the whole slide.
        corners: (N, 2), x and y of each tile's top left corner, in pixels of level 0.
        side: of a tile, in pixels of level 0.
        size: width and height of the slide, in pixels of level 0.
    """
    scale = np.array([thumbnail.shape[1] / size[0], thumbnail.shape[0] / size[1]])
    limits = np.array([thumbnail.shape[1], thumbnail.shape[0]])
    begins = np.minimum(np.rint(corners * scale).astype(int), limits - 1)  # a tile may be less than a pixel
    ends = np.minimum(np.maximum(np.rint((corners + side) * scale).astype(int), begins + 1), limits)
    pale = (255 - (255 - thumbnail.astype(float)) * _DIMMED).astype(np.uint8)
    for (left, top), (right, bottom) in zip(begins, ends, strict=True):
        pale[top:bottom, left:right] = thumbnail[top:bottom, left:right]
    for (left, top), (right, bottom) in zip(begins, ends, strict=True):
        pale[[top, bottom - 1], left:right] = _LINE
        pale[top:bottom, [left, right - 1]] = _LINE
    return pale


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture in one step: a reader sees the old file or the new one.

    Args:
        path: of the PNG; its folder must exist.
        picture: (h, w, 3) uint8, RGB.

    Raises:
        OSError: it could not be written.
    """
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "png")
    atomic.write_bytes(path, encoded.getvalue())
