"""Drawn images for trials without a download: a bright bar, whose direction is the class."""

from __future__ import annotations

import numpy as np
import torch

from entroreg.vision.images.data import ImageSet

__all__ = ["drawn_bars"]

_CLASSES, _SIDE = 10, 16
_COUNTS = {"train": 2000, "test": 500}


def drawn_bars(part: str) -> ImageSet:
    """Return bars of ten directions, shifted by up to two pixels, under noise; always the same ones.

    Args:
        part: train (2,000 images) or test (500), 16 x 16, one channel.
    """
    count = _COUNTS[part]
    rng = np.random.default_rng(sorted(_COUNTS).index(part))
    labels = rng.integers(_CLASSES, size=count)
    angles = np.pi * labels / _CLASSES
    centres = (_SIDE - 1) / 2 + rng.uniform(-2.0, 2.0, (2, count, 1, 1))
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    across = np.sin(angles)[:, None, None] * (columns - centres[0]) - np.cos(angles)[:, None, None] * (
        rows - centres[1]
    )
    bright = np.exp(-0.5 * (across / 1.2) ** 2) + rng.normal(0.0, 0.05, (count, _SIDE, _SIDE))
    pixels = np.rint(255 * bright.clip(0.0, 1.0)).astype(np.uint8)
    return ImageSet(torch.tensor(pixels[:, None]), torch.tensor(labels, dtype=torch.int64), _CLASSES)
