"""A replay buffer as tables of a checkpoint, so that a save writes only what has been added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer

from entroreg.agents.packed_replay import PackedReplayBuffer
from entroreg.checkpoint import Table

# Infos of a HerReplayBuffer are empty, if they are not refused; what was added is told to copies on a GPU.
_NOT_STATE = ("device", "infos", "added")


class ReplayTables:
    """The arrays of a replay buffer, all that have a row for each step, as tables.

    Args:
        buffer: Stable-Baselines3's, for vectors, images, dictionaries or hindsight, a packed one, or another.

    Raises:
        ValueError: it keeps Python objects for each step, as HerReplayBuffer does with ``copy_info_dict``.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        if getattr(buffer, "copy_info_dict", False):
            raise ValueError(
                "the replay buffer must hold numbers to be saved, got infos of each step: leave copy_info_dict out"
            )
        self.buffer = buffer
        self._tables = {name: Table(_in_known_dtype(array)) for name, array in _arrays(buffer)}

    def tables(self) -> dict[str, Table]:
        """Return the tables, with as many rows as the buffer holds."""
        buffer = self.buffer
        # One more than stored: with optimize_memory_usage the row ahead holds the next observation.
        filled = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
        for table in self._tables.values():
            table.filled = filled
            table.mark_all()  # anyone may have written to any row: whether a block changed is seen by its hash
        return dict(self._tables)

    def empty(self) -> dict[str, Table]:
        """Return the tables as they are, for ``load_checkpoint`` to fill."""
        return dict(self._tables)

    def attributes(self) -> dict[str, Any]:
        """Return what the buffer holds besides rows, by the names of its attributes; the objects themselves."""
        held = _held(self.buffer).items()
        return {name: value for name, value in held if name not in _NOT_STATE and not self._has_rows(value)}

    def load_attributes(self, attributes: dict[str, Any]) -> None:
        """Take what ``attributes`` gave, or a saved form of it, once the tables are filled."""
        vars(self.buffer).update(attributes)
        if isinstance(self.buffer, PackedReplayBuffer):
            self.buffer.added += self.buffer.buffer_size  # all rows are new to whoever has a copy

    def _has_rows(self, value: Any) -> bool:
        return any(
            _has_rows(part, self.buffer) for part in (value.values() if isinstance(value, dict) else [value])
        )


def _held(buffer: ReplayBuffer) -> dict[str, Any]:
    """Return the attributes, but for views of rows and the environment of a HerReplayBuffer."""
    held: Any = buffer.__getstate__()
    return dict(held)


def _arrays(buffer: ReplayBuffer) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in _held(buffer).items():
        if isinstance(value, dict):
            yield from ((f"{name}.{_plain(key)}", part) for key, part in value.items() if _has_rows(part, buffer))
        elif _has_rows(value, buffer):
            yield name, value


def _has_rows(value: Any, buffer: ReplayBuffer) -> bool:
    rows = isinstance(value, np.ndarray) and value.shape[:2] == (buffer.buffer_size, buffer.n_envs)
    return rows and value.dtype.kind != "O"


def _plain(key: Any) -> str:
    """Return a key of a dict of observations as a part of a file's name; different keys stay different."""
    return re.sub("[^A-Za-z0-9_.]", lambda found: f"-{ord(found[0]):x}-", str(key))


def _in_known_dtype(array: np.ndarray) -> np.ndarray:
    """Return an array, as bytes where safetensors lacks its dtype."""
    return array.view(np.uint8) if array.dtype in (np.uint16, np.uint32, np.uint64) else array
