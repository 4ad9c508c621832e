"""The process's global random generators, shared by consumers that each have streams of their own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RandomStreams:
    """The states of Python's, NumPy's and torch's global generators as one consumer left them.

    Made with the states of this moment. Stable-Baselines3 draws from the global generators, so agents that train in
    turns would read each other's numbers; inside ``active`` an agent reads on where it stopped.

    Args:
        device: whose generator of torch is meant besides the CPU's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.save()

    def save(self) -> None:
        """Keep the present states."""
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    def restore(self) -> None:
        """Bring the kept states back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(self._cuda, self._device)

    def state_dict(self) -> dict[str, Any]:
        """Return the kept states as plain data and tensors."""
        return {"python": self._python, "numpy": self._numpy, "torch": self._torch, "cuda": self._cuda}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep states that ``state_dict`` gave; those of a GPU only where one is meant."""
        self._python, self._numpy = state["python"], state["numpy"]
        self._torch = state["torch"].cpu()
        self._cuda = None if state["cuda"] is None else state["cuda"].cpu()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Restore at the start of the block and save at its end."""
        self.restore()
        try:
            yield
        finally:
            self.save()


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Leave the global generators behind as they were before the block."""
    outside = RandomStreams(device)
    try:
        yield
    finally:
        outside.restore()
