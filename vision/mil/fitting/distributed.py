"""Several processes that fit one model, each on its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg.vision.mil.fitting.batching import Indices

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """This process among those that fit together; a fit in one process is the default.

    Args:
        rank: of this process, from 0.
        count: of all processes.
    """

    rank: int = 0
    count: int = 1

    def own(self, bags: Indices) -> Indices:
        """Return this process's part of a batch: every ``count``-th bag."""
        return bags[self.rank :: self.count]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return a tensor summed over processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process, so that all stop at the same step."""
        return flag if self.count == 1 else bool(self.sum(torch.tensor(float(flag))) > 0)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in one message; a process without bags adds zeros."""
        if self.count == 1:
            return
        owners = list(parameters)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in owners]
        flat = self.sum(torch.cat([part.reshape(-1) for part in parts]))
        for parameter, summed in zip(owners, torch.split(flat, [p.numel() for p in owners]), strict=True):
            parameter.grad = summed.view_as(parameter)

    def share_first(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the values of the first one, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)  # the same memory, outside of autograd

    def wait(self) -> None:
        """Return once all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined_processes(device: torch.device | str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started inside the block; alone where it did not.

    Args:
        device: of the model; NCCL connects GPUs and Gloo CPUs.

    Yields:
        This process among the others.

    Example:
        >>> with joined_processes("cpu") as processes:
        ...     processes.count
        1
    """
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if any(name not in os.environ for name in _VARIABLES):
        yield Processes()
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
