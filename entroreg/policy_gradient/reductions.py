"""From the losses of tokens to one number. Shapes: B batch, T tokens.

With a group each process returns its share: the mean over the processes is the loss of the whole batch, and so are
gradients that are averaged over the processes, as DistributedDataParallel does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg import _checks
from entroreg._collectives import total, world_size

Reduction: TypeAlias = Callable[[Tensor, Tensor, dist.ProcessGroup | None], Tensor]


def token_mean(losses: Tensor, mask: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    r"""Return the mean over all kept tokens: long sequences weigh more.

    $$\frac{\sum_{bt} m_{bt} l_{bt}}{\sum_{bt} m_{bt}}$$

    Args:
        losses: (B, T) floating.
        mask: (B, T) boolean, True = keep.
        group: processes among which the batch is divided.

    Returns:
        scalar; 0 with gradient 0 where nothing is kept.

    Example:
        >>> token_mean(torch.tensor([[1.0, 2.0], [6.0, 9.0]]), torch.tensor([[True, True], [True, False]]))
        tensor(3.)

    Reference:
        Yu et al. (2025), DAPO, arXiv 2503.14476, section 3.3.
    """
    return _share(torch.where(mask, losses, 0.0).sum(), mask.sum(), group)


def sequence_mean(losses: Tensor, mask: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    r"""Return the mean over sequences of the mean over their kept tokens: all sequences weigh the same.

    $$\frac1B \sum_b \frac{\sum_t m_{bt} l_{bt}}{\sum_t m_{bt}}$$

    Args:
        losses: (B, T) floating.
        mask: (B, T) boolean, True = keep; sequences that keep nothing are left out.
        group: processes among which the batch is divided.

    Returns:
        scalar; 0 with gradient 0 where nothing is kept.

    Example:
        >>> sequence_mean(torch.tensor([[1.0, 2.0], [6.0, 9.0]]), torch.tensor([[True, True], [True, False]]))
        tensor(3.7500)

    Reference:
        Shao et al. (2024), GRPO, arXiv 2402.03300, eq. 3.
    """
    counts = mask.sum(dim=1)
    means = torch.where(mask, losses, 0.0).sum(dim=1) / counts.clamp(min=1)  # an empty one is 0, and not counted
    return _share(means.sum(), (counts > 0).sum(), group)


@dataclass(frozen=True)
class ConstantLength:
    r"""Reduction to the sum over tokens divided by a constant length: no bias for short or long sequences.

    $$\frac1{BL} \sum_{bt} m_{bt} l_{bt}$$

    Args:
        length: L, above 0; the longest response that is allowed.

    Raises:
        TypeError: length is no number.
        ValueError: length not above 0.

    Example:
        >>> ConstantLength(4)(torch.tensor([[1.0, 2.0], [6.0, 9.0]]), torch.tensor([[True, True], [True, False]]))
        tensor(1.1250)

    Reference:
        Liu et al. (2025), Dr. GRPO, arXiv 2503.20783, section 3.2.
    """

    length: float

    def __post_init__(self) -> None:
        _checks.require_positive("length", self.length)

    def __call__(self, losses: Tensor, mask: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
        """Return the scalar loss for losses (B, T) and a mask (B, T)."""
        sequences = torch.full((), len(mask), device=mask.device)
        return _share(torch.where(mask, losses, 0.0).sum() / self.length, sequences, group)


def _share(summed: Tensor, count: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    # A batch of nothing divides 0 by 1.
    return summed * world_size(group) / total(count, group).clamp(min=1)
