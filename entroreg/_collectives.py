"""Statistics over the processes of a group; without a group, of this process alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Gathered(NamedTuple):
    """The elements of all processes in the order of their ranks, and which of them are this one's."""

    values: Tensor
    own: slice


def world_size(group: dist.ProcessGroup | None) -> int:
    """Return the number of processes."""
    return 1 if group is None else dist.get_world_size(group)


def total(values: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Return the sum over the processes, detached, of a tensor of the same shape in each."""
    values = values.detach()
    if group is None:
        return values
    result = values.clone()
    dist.all_reduce(result, group=group)
    return result


def gather(flat: Tensor, group: dist.ProcessGroup | None) -> Gathered:
    """Return the elements of all processes, detached.

    Args:
        flat: (n,), of which n may differ from process to process.
        group: processes that all call this.
    """
    flat = flat.detach()
    if group is None:
        return Gathered(flat, slice(None))
    sizes = _all_gather(flat.new_tensor([flat.numel()], dtype=torch.int64), group)
    counts = [int(size) for size in sizes]
    padded = flat.new_zeros(max(counts))
    padded[: flat.numel()] = flat
    parts = [part[:count] for part, count in zip(_all_gather(padded, group), counts, strict=True)]
    start = sum(counts[: dist.get_rank(group)])
    return Gathered(torch.cat(parts), slice(start, start + flat.numel()))


def _all_gather(values: Tensor, group: dist.ProcessGroup) -> list[Tensor]:
    received = [torch.empty_like(values) for _ in range(dist.get_world_size(group))]
    dist.all_gather(received, values.contiguous(), group=group)
    return received
