"""What an epoch's steps leave behind: mean losses, and the first number that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from entroreg.vision.mil.fitting.batching import Indices
from entroreg.vision.mil.fitting.distributed import Processes

# In the order of their causes: the first that is not finite is named.
QUANTITIES = ("attention_logits", "loss", "aem_loss", "gradient_norm")
_CHECKED_ONLY = ("attention_logits",)
_UNREAD_STEPS = 64  # on a GPU, or of several processes, between two looks at what is not finite


class EpochLog:
    """Collects QUANTITIES of each step, and reads them from the device now and then.

    Args:
        epoch: from 0, for messages.
        at_once: whether to look at every step, which is free on a CPU and would stall a GPU.
        processes: whose losses add up.
        culprits: from a step's bags to words for them.
    """

    def __init__(
        self, epoch: int, *, at_once: bool, processes: Processes, culprits: Callable[[Indices], str]
    ) -> None:
        self._epoch = epoch
        self._most = 1 if at_once and processes.count == 1 else _UNREAD_STEPS
        self._processes = processes
        self._culprits = culprits
        self._unread: list[tuple[Tensor, Sequence[Indices]]] = []
        self._sums = [0.0] * len(QUANTITIES)
        self.steps = 0

    def add(self, parts: Tensor, gradient_norm: Tensor, bags: Sequence[Indices]) -> None:
        """Take a step.

        Args:
            parts: (3,) of this process: a number that is NaN or infinite where its attention is, its part of the
                step's loss, and of AEM's.
            gradient_norm: scalar, of all processes' gradient.
            bags: of the step, batch by batch.

        Raises:
            FloatingPointError: a number of this or an earlier step is not finite.
        """
        self._unread.append((torch.cat([parts, gradient_norm.detach().reshape(1).to(parts)]), bags))
        if len(self._unread) == self._most:
            self._read()

    def means(self) -> dict[str, float]:
        """Return the mean of each quantity over the steps, but for what is only checked.

        Raises:
            FloatingPointError: as ``add``.
        """
        self._read()
        named = zip(QUANTITIES, self._sums, strict=True)
        return {name: total / self.steps for name, total in named if name not in _CHECKED_ONLY}

    def _read(self) -> None:
        if not self._unread:
            return
        table = torch.stack([row for row, _ in self._unread])
        table[:, :-1] = self._processes.sum(table[:, :-1].contiguous())
        for values, (_, bags) in zip(table.tolist(), self._unread, strict=True):
            self.steps += 1
            for place, value in enumerate(values):
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"{QUANTITIES[place]} became {value} in epoch {self._epoch + 1}, step {self.steps}: "
                        f"{self._culprits(np.concatenate(bags))}"
                    )
                self._sums[place] += value
        self._unread = []
