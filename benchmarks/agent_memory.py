"""What an agent will take of the memory, counted before it is built."""

from __future__ import annotations

import itertools
import math
from typing import Any

from gymnasium import spaces

from entroreg.benchmarks.memory import require_memory

_FLOAT = 4  # bytes
_TRAINED = 4 * _FLOAT  # a parameter with its gradient and Adam's two moments
_SCALARS = 3 * _FLOAT  # reward, done and timeout of a transition
_ACTIVATIONS = 10 * _FLOAT  # of a hidden unit for a transition: five networks, forward and backward


def require_buffers_fit(
    observations: spaces.Space[Any], actions: spaces.Space[Any], buffer_size: int, agents: int = 1
) -> None:
    """Refuse replay buffers that would not fit the memory once they are full.

    Args:
        observations: space.
        actions: space.
        buffer_size: transitions kept by each.
        agents: how many.

    Raises:
        UserError: they do not fit.
    """
    row = 2 * _bytes_of(observations) + _bytes_of(actions) + _SCALARS
    require_memory("buffer_size", agents * buffer_size * row, "keep fewer transitions, with --buffer-size")


def require_networks_fit(
    observations: spaces.Space[Any],
    actions: spaces.Space[Any],
    net: tuple[int, ...],
    batch_size: int,
    agents: int = 1,
) -> None:
    """Refuse actors and critics, and batches for them, that would not fit the memory.

    Args:
        observations: space.
        actions: space.
        net: widths of the hidden layers.
        batch_size: transitions of an update.
        agents: how many.

    Raises:
        UserError: they do not fit; which is named.
    """
    width, moves = spaces.flatdim(observations), spaces.flatdim(actions)
    actor = _parameters(width, net, 2 * moves)
    critics = 2 * _parameters(width + moves, net, moves)
    networks = (actor + critics) * _TRAINED + critics * _FLOAT
    require_memory("net", agents * networks, "ask for narrower layers, with --net")
    batch = batch_size * (2 * _bytes_of(observations) + sum(net) * _ACTIVATIONS)
    require_memory("batch_size", agents * batch, "ask for a smaller --batch-size")


def _bytes_of(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Dict):
        return sum(map(_bytes_of, space.values()))
    if isinstance(space, spaces.Box):
        return math.prod(space.shape) * space.dtype.itemsize
    return spaces.flatdim(space) * _FLOAT


def _parameters(inputs: int, net: tuple[int, ...], outputs: int) -> int:
    return sum(before * after + after for before, after in itertools.pairwise((inputs, *net, outputs)))
