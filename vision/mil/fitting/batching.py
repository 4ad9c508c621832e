"""The order in which bags are trained on: shuffled, balanced, cut into batches and steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.mil.fitting.settings import FitSettings
from entroreg.vision.mil.fitting.streams import ORDER, stream

Indices = NDArray[np.int64]


class Batch(NamedTuple):
    """Bags of one forward and backward pass.

    Attributes:
        bags: (B,) places in the list of training bags.
        step_bags: bags of the whole step, by which the sum of the losses is divided.
        ends_step: whether the optimiser's step follows.
    """

    bags: Indices
    step_bags: int
    ends_step: bool


def epoch_batches(sizes: Indices, labels: Indices, settings: FitSettings, epoch: int) -> list[Batch]:
    """Return the batches of an epoch, which its number and the seed determine.

    Args:
        sizes: (n,) instances of each training bag.
        labels: (n,) its class.
        settings: of the fit.
        epoch: from 0.

    Example:
        >>> batches = epoch_batches(np.full(5, 10), np.zeros(5, int), FitSettings(bags_per_step=2), epoch=0)
        >>> [len(batch.bags) for batch in batches]
        [2, 2, 1]
    """
    generator = stream(settings.seed, ORDER, epoch)
    if settings.balance == "sampling":
        odds = balancing_weights(labels)[labels]
        order = generator.choice(len(sizes), size=len(sizes), p=odds / odds.sum())
    else:
        order = generator.permutation(len(sizes))
    cuts = _cuts(trained_sizes(sizes, settings)[order], settings)
    parts = [order[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    batches = []
    for begin in range(0, len(parts), settings.accumulate):
        step = parts[begin : begin + settings.accumulate]
        bags = sum(map(len, step))
        batches += [Batch(part, bags, part is step[-1]) for part in step]
    return batches


def planned_steps(sizes: Sequence[int], labels: Sequence[int], settings: FitSettings) -> int:
    """Return the optimiser's steps in a whole fit, over which the learning rate and a scheduled lambda fall.

    Args:
        sizes: instances of each training bag.
        labels: its class.
        settings: of the fit.

    Example:
        >>> planned_steps([10] * 5, [0, 0, 0, 1, 1], FitSettings(epochs=4, bags_per_step=2))
        12
    """
    of_bags = np.asarray(sizes, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    epochs = (epoch_batches(*of_bags, settings, epoch) for epoch in range(settings.epochs))
    return sum(batch.ends_step for batches in epochs for batch in batches)


def evaluation_batches(sizes: Indices, instances: int) -> Iterator[Indices]:
    """Return places of bags in their order, cut so that a batch has at most ``instances``, or one larger bag."""
    settings = FitSettings(instances_per_step=instances)
    return iter(np.split(np.arange(len(sizes)), _cuts(sizes, settings)))


def trained_sizes(sizes: Indices, settings: FitSettings) -> Indices:
    """Return (n,) how many instances of each bag a training pass sees: all, a share, or a fixed number.

    Example:
        >>> trained_sizes(np.array([1, 10]), FitSettings(instance_share=0.5))
        array([1, 5])
    """
    if settings.sampled_bag_size is not None:
        return np.full_like(sizes, settings.sampled_bag_size)
    return np.maximum((settings.instance_share * sizes).astype(np.int64), 1)


def drawn_rows(size: int, settings: FitSettings, generator: np.random.Generator) -> Indices | None:
    """Return which instances of a bag a training pass sees, sorted; None for all of them."""
    if settings.sampled_bag_size is not None:
        wanted = settings.sampled_bag_size
        return np.sort(generator.choice(size, wanted, replace=size < wanted, shuffle=False))
    if settings.instance_share == 1.0:
        return None
    wanted = int(trained_sizes(np.array([size]), settings)[0])
    return np.sort(generator.choice(size, wanted, replace=False, shuffle=False))


def balancing_weights(labels: Indices) -> NDArray[np.float64]:
    r"""Return (C,) the weight of each class, $n / (C n_c)$, of which the mean over bags is 1.

    C counts the classes that have bags; one without has weight 0.

    Example:
        >>> balancing_weights(np.array([0, 0, 0, 2]))
        array([0.66666667, 0.        , 2.        ])
    """
    counts = np.bincount(labels)
    return np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)


def _cuts(sizes: Indices, settings: FitSettings) -> list[int]:
    """Return where a new batch begins, the first one's 0 left out."""
    budget = settings.instances_per_step
    most_bags = settings.bags_per_step or (1 if budget is None else len(sizes))
    if budget is None:
        return list(range(most_bags, len(sizes), most_bags))
    cuts, begin, instances = [], 0, 0
    for place, size in enumerate(sizes.tolist()):
        if place > begin and (instances + size > budget or place - begin == most_bags):
            cuts.append(place)
            begin, instances = place, 0
        instances += size
    return cuts
