"""An iteration that is stopped in its middle, taken back: the training is as it was between two iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gymnasium import Env

from entroreg.agents.adversarial.saving import load_training_state, memories_of, training_state
from entroreg.state_tree import join_state, split_state

if TYPE_CHECKING:
    from entroreg.agents.adversarial.two_players import TwoPlayers


class Moment:
    """A training between two iterations, kept in memory while the next one is taken.

    Args:
        agent: the training.
        most: steps that a player takes in an iteration at most.
    """

    def __init__(self, agent: TwoPlayers, most: int) -> None:
        self._agent = agent
        tensors, self._tree = split_state(training_state(agent))
        self._tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        self._rows = []
        for memory in memories_of(agent).values():
            size = memory.buffer.buffer_size
            places = (memory.buffer.pos + np.arange(min(most, size))) % size  # those that are written to next
            self._rows += [(table.rows, places, table.rows[places]) for table in memory.empty().values()]

    def take_back(self) -> None:
        """Bring the training back to this moment."""
        for rows, places, before in self._rows:
            rows[places] = before
        load_training_state(self._agent, join_state(self._tensors, self._tree))


def longest_episode(task: Env, cut: int | None) -> int | None:
    """Return the most steps that an episode can have, None where nothing limits it.

    Args:
        task: the environment.
        cut: after how many steps a training cuts an episode; None for the task's own limit.
    """
    if cut is not None:
        return cut
    return None if task.spec is None else task.spec.max_episode_steps
