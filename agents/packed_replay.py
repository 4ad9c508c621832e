"""A replay buffer that keeps a transition in one row: written once, gathered once."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

_SCALARS = ("rewards", "dones", "timeouts")


class PackedReplayBuffer(ReplayBuffer):
    """Stable-Baselines3's replay buffer for vectors of floats, with its arrays as columns of one float32 table.

    ``observations``, ``actions`` and the other arrays are views of the table, so whoever writes or reads them does
    so as before. Indices are drawn as in Stable-Baselines3; a batch is gathered with one call.
    """

    table: np.ndarray
    """(buffer_size, n_envs, width): all rows."""
    rows: Tensor
    """(buffer_size * n_envs, width): the table."""
    columns: tuple[int, int, int]
    """Where observations, next observations and actions end in a row; then come reward, done and timeout."""
    added: int
    """Number of calls of ``add`` so far."""

    @classmethod
    def like(cls, buffer: ReplayBuffer) -> Self:
        """Return an empty buffer with the settings of another, whose arrays are not copied.

        Args:
            buffer: for which ``can_pack`` holds.
        """
        packed = cls.__new__(cls)
        packed.__dict__.update({k: v for k, v in buffer.__dict__.items() if not isinstance(v, np.ndarray)})
        width = 2 * packed.obs_shape[0] + packed.action_dim + len(_SCALARS)
        packed.table = np.zeros((packed.buffer_size, packed.n_envs, width), dtype=np.float32)
        packed.added = 0
        packed._make_views()
        return packed

    def _make_views(self) -> None:
        (size,) = self.obs_shape
        self.columns = (size, 2 * size, 2 * size + self.action_dim)
        first, second, third = self.columns
        self.observations = self.table[:, :, :first]
        self.next_observations = self.table[:, :, first:second]
        self.actions = self.table[:, :, second:third]
        self.rewards, self.dones, self.timeouts = (self.table[:, :, third + i] for i in range(len(_SCALARS)))
        self.rows = torch.from_numpy(self.table.reshape(-1, self.table.shape[2]))

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        indices = batch_inds * self.n_envs + np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))
        rows = self.rows.numpy().take(indices, axis=0)  # several times as fast as torch's gather
        samples = unpack(torch.from_numpy(rows), self.columns)
        if env is not None:
            samples = samples._replace(
                observations=_normalized(env.normalize_obs(samples.observations.numpy())),
                next_observations=_normalized(env.normalize_obs(samples.next_observations.numpy())),
                rewards=_normalized(env.normalize_reward(samples.rewards.numpy())),
            )
        return ReplayBufferSamples(*(part.to(self.device) for part in samples[:5]))

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add a transition of each environment; arguments as in Stable-Baselines3."""
        super().add(*args, **kwargs)
        self.added += 1

    def __getstate__(self) -> dict[str, Any]:
        views = ("observations", "next_observations", "actions", *_SCALARS, "rows")
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_views()


def unpack(rows: Tensor, columns: tuple[int, int, int]) -> ReplayBufferSamples:
    """Return rows (B, width) of the table as a batch of views."""
    first, second, third = columns
    rewards, dones, timeouts = (rows[:, third + i : third + i + 1] for i in range(len(_SCALARS)))
    # An episode that a time limit cut short did not end: its value is bootstrapped.
    ended = dones * (1 - timeouts)
    return ReplayBufferSamples(rows[:, :first], rows[:, second:third], rows[:, first:second], ended, rewards)


def can_pack(buffer: Any) -> bool:
    """Whether a buffer may be replaced by a packed one: a plain one for float vectors, with continuous actions."""
    return (
        type(buffer) is ReplayBuffer
        and not buffer.optimize_memory_usage
        and buffer.handle_timeout_termination
        and isinstance(buffer.action_space, spaces.Box)
        and isinstance(buffer.observation_space, spaces.Box)
        and len(buffer.obs_shape) == 1
        and buffer.observations.dtype in (np.float32, np.float64)
    )


def _normalized(values: Any) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
