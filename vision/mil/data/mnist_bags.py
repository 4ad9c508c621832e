"""MNIST-bags: bags of digits that are positive if the target digit is among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.vision.mil.dataset import BagsInMemory

_RAREST = 1e-3  # share of bags of a kind, below which to draw until one comes takes too long


class DrawnBags(NamedTuple):
    """Bags as places in an array of images.

    Attributes:
        places: for each bag the places of its instances.
        labels: for each bag 1 if the target is among them.
        marked: for each bag (N,) boolean, True where the target is.
    """

    places: list[NDArray[np.int64]]
    labels: list[int]
    marked: list[NDArray[np.bool_]]


def draw_bags(
    digits: NDArray[np.uint8],
    *,
    bags: int,
    target: int = 9,
    mean_size: float = 10.0,
    size_deviation: float = 2.0,
    seed: int = 0,
) -> DrawnBags:
    """Return bags of random digits, half of them with the target among them.

    A bag is drawn until it is of the kind that is due, so bags of a kind are as the paper's random bags of that
    kind; positive ones are therefore a little larger. Digits come from one pool, with replacement: they recur,
    between bags and now and then within one.

    Args:
        digits: (n,) labels of the images.
        bags: how many.
        target: digit that makes a bag positive.
        mean_size: of a bag.
        size_deviation: standard deviation of a bag's size; sizes are rounded and at least 1.
        seed: of the draws.

    Raises:
        ValueError: fewer than two bags, no target or nothing but the target among the digits, or bags of which next
            to none is positive or negative.

    Reference:
        Ilse, Tomczak, Welling (2018), "Attention-based deep multiple instance learning", section 4.2.
    """
    _checks.require_number("bags", bags, low=2)
    _checks.require_number("mean_size", mean_size, low=1.0)
    _checks.require_number("size_deviation", size_deviation, low=0.0)
    hits = digits == target
    if not 0 < hits.sum() < len(digits):
        raise ValueError(f"digits must hold the target {target} and others, got {int(hits.sum())} of {len(digits)}")
    negative = (1.0 - hits.mean()) ** mean_size
    if min(negative, 1.0 - negative) < _RAREST:
        raise ValueError(
            f"mean_size must allow for bags with and without the target, {hits.mean():.2g} of the digits, got "
            f"{mean_size:g}: about {negative:.1g} of such bags are negative"
        )
    generator = np.random.default_rng(seed)
    drawn = DrawnBags([], [], [])
    for number in range(bags):
        wanted = number % 2 == 1
        while True:
            size = max(1, round(generator.normal(mean_size, size_deviation)))
            places = generator.integers(len(digits), size=size)
            if bool(hits[places].any()) == wanted:
                break
        drawn.places.append(places)
        drawn.labels.append(int(wanted))
        drawn.marked.append(hits[places])
    return drawn


def mnist_bags(images: NDArray[np.uint8], drawn: DrawnBags) -> BagsInMemory:
    """Return drawn bags with the digits' pixels, from 0 to 1, as features.

    Args:
        images: (n, 28, 28).
        drawn: from ``draw_bags``.
    """
    pixels = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 255.0)
    return BagsInMemory(
        [pixels[torch.from_numpy(places)] for places in drawn.places],
        drawn.labels,
        names=[f"bag-{number:04}" for number in range(len(drawn.labels))],
        marked=[torch.from_numpy(marks) for marks in drawn.marked],
    )
