"""Packed bags: all instances of all bags in one matrix, and where each bag begins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from entroreg import _checks


@dataclass(frozen=True)
class Bags:
    """Bags of different sizes without padding, so that no mask can be forgotten.

    Made by `pack`. M instances in all, B bags, D features.
    """

    features: Tensor
    """(M, D) floating, the bags' instances one bag after the other."""
    offsets: Tensor
    """(B + 1,) int64 on the device of ``features``: bag b is rows ``offsets[b]`` to ``offsets[b + 1]``."""
    sizes: tuple[int, ...]
    """Instances of each bag, known without reading the device."""

    def __len__(self) -> int:
        """Return B, the number of bags."""
        return len(self.sizes)

    def bag(self, index: int) -> Tensor:
        """Return (N, D), the instances of one bag, as a view."""
        begin = sum(self.sizes[:index])
        return self.features[begin : begin + self.sizes[index]]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Bags:
        """Return the bags on a device and, if given, in a dtype."""
        moved = self.features.to(device=device, dtype=dtype, non_blocking=True)
        return Bags(moved, self.offsets.to(device, non_blocking=True), self.sizes)


def pack(bags: Sequence[Tensor]) -> Bags:
    """Return bags packed into one matrix.

    Args:
        bags: each (N, D) floating with N >= 1; all of one D, dtype and device.

    Returns:
        The packed bags.

    Raises:
        TypeError: a bag is no floating tensor.
        ValueError: there is no bag, one is empty or not two-dimensional, or they differ in D, dtype or device.

    Example:
        >>> packed = pack([torch.zeros(2, 3), torch.ones(1, 3)])
        >>> packed.offsets
        tensor([0, 2, 3])
    """
    if not bags:
        raise ValueError("bags must hold at least one bag, got none")
    for index, bag in enumerate(bags):
        _check_bag(f"bag {index}", bag, bags[0])
    sizes = tuple(len(bag) for bag in bags)
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    features = bags[0] if len(bags) == 1 else torch.cat(list(bags))
    return Bags(features, offsets.to(features.device, non_blocking=True), sizes)


def _check_bag(name: str, bag: Tensor, first: Tensor) -> None:
    _checks.require_floating(name, bag)
    if bag.dim() != 2:
        raise ValueError(f"{name} must have shape (instances, features), got {tuple(bag.shape)}")
    if not len(bag):
        raise ValueError(f"{name} must have at least one instance, got none: leave empty bags out")
    for what, found, expected in (
        ("features", bag.shape[1], first.shape[1]),
        ("dtype", bag.dtype, first.dtype),
        ("device", bag.device, first.device),
    ):
        if found != expected:
            raise ValueError(f"{name} must have the {what} of bag 0, {expected}, got {found}")
