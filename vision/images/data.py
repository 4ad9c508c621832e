"""Image data sets as tensors of bytes."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg import _checks
from entroreg.vision.data.cifar import read_cifar10
from entroreg.vision.data.errors import DataError
from entroreg.vision.data.fetching import fetched
from entroreg.vision.data.idx import read_digits

__all__ = ["ImageName", "ImageSet", "Part", "as_float", "load_images"]

ImageName = Literal["mnist", "fashion-mnist", "cifar10"]
Part = Literal["train", "test"]
_CLASSES = 10  # of all three


class ImageSet(NamedTuple):
    """Labelled images.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64 in [0, classes).
        classes: K.
    """

    images: Tensor
    labels: Tensor
    classes: int

    def first(self, count: int) -> ImageSet:
        """Return the first ``count`` images, all if there are fewer.

        Args:
            count: from 1.

        Raises:
            ValueError: ``count`` is below 1.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}: an empty set has no accuracy")
        return ImageSet(self.images[:count], self.labels[:count], self.classes)


def load_images(name: ImageName, part: Part) -> ImageSet:
    """Return one part of a data set, which is fetched first if it is not in the cache.

    Args:
        name: mnist, fashion-mnist (28 x 28, one channel) or cifar10 (32 x 32, RGB).
        part: train (60,000; cifar10 50,000) or test (10,000).

    Raises:
        ValueError: there is no such data set or part.
        DataError: it could not be fetched, or is damaged.
    """
    _checks.require_choice("name", name, get_args(ImageName))
    _checks.require_choice("part", part, get_args(Part))
    folder = fetched(name)
    if name == "cifar10":
        images, labels = read_cifar10(folder, part)
        return _image_set(images.transpose(0, 3, 1, 2), labels)
    images, labels = read_digits(folder, "train" if part == "train" else "t10k")
    return _image_set(images[:, None], labels)


def as_float(images: Tensor) -> Tensor:
    """Return images as float32 between 0 and 1.

    Args:
        images: (...) uint8.

    Raises:
        TypeError: not bytes.

    Example:
        >>> as_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 tensor, got {got}: floating images are used as they are")
    return images.float() / 255.0


def _image_set(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> ImageSet:
    if labels.max(initial=0) >= _CLASSES:
        raise DataError(f"labels must be below {_CLASSES}, got {labels.max()}: fetch the data set again")
    # A copy: the readers' arrays share read-only bytes.
    return ImageSet(torch.tensor(images), torch.tensor(labels, dtype=torch.int64), _CLASSES)
