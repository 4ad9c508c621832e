"""Random streams of a fit: each consumer has its own for every epoch, so that no stream's state need be kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

ORDER, INSTANCES, MODEL = range(3)  # consumers


def stream(seed: int, consumer: int, epoch: int) -> np.random.Generator:
    """Return the generator of a consumer in an epoch: a grandchild of ``SeedSequence(seed)``.

    Example:
        >>> stream(0, ORDER, 3).integers(100) == stream(0, ORDER, 3).integers(100)
        np.True_
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(consumer, epoch)))


@contextmanager
def model_randomness(seed: int, epoch: int, rank: int, device: torch.device) -> Iterator[None]:
    """Give dropout, which draws from torch's global generators, a stream of this epoch and process.

    The global generators are inside the block as if freshly seeded, and after it as before.

    Args:
        seed: of the fit.
        epoch: from 0.
        rank: of this process; two processes must not drop the same units of different bags.
        device: of the model.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(MODEL, epoch, rank))
    seed = int(sequence.generate_state(1, np.uint64)[0])
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs, and not only this one
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
