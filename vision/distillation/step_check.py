"""Whether the steps of a training were finite."""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg.guards import require_finite

_UNREAD_STEPS = 64  # on a GPU, between two looks
_QUANTITIES = ("loss", "gradient norm")


class StepCheck:
    """Takes loss and gradient norm of each step, and reads them from the device now and then.

    Args:
        at_once: whether to look at every step, which is free on a CPU and would stall a GPU.
    """

    def __init__(self, *, at_once: bool) -> None:
        self._most = 1 if at_once else _UNREAD_STEPS
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, step: int, loss: Tensor, gradient_norm: Tensor) -> None:
        """Take a step's scalars; FloatingPointError as for ``read``."""
        self._unread.append((step, torch.stack([loss.detach().float(), gradient_norm.detach().float()])))
        if len(self._unread) >= self._most:
            self.read()

    def read(self) -> None:
        """Look at the steps that were not looked at yet.

        Raises:
            FloatingPointError: a loss or a gradient is not finite; the first is named.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        table = torch.stack([row for _, row in unread]).tolist()
        for (step, _), row in zip(unread, table, strict=True):
            for name, value in zip(_QUANTITIES, row, strict=True):
                require_finite(name, value, at=f"step {step}", advice="lower the learning rate")
