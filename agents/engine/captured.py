"""Several updates as one launch on a GPU: sampling, noise and updates in one captured CUDA graph.

Its arithmetic is tested on a CPU, where nothing is captured; the tests marked ``gpu`` need a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from entroreg.agents.engine.adam import CONSTANTS, AdamState
from entroreg.agents.engine.player import GivenAlpha, LearnedAlpha, Player
from entroreg.agents.engine.sac_update import Batch
from entroreg.agents.packed_replay import PackedReplayBuffer, unpack

_NETWORKS = 2 * CONSTANTS + 1  # numbers of an update that are the networks': Adam's twice, and tau
_DUAL = CONSTANTS + 3


class DeviceTable:
    """The table of a packed replay buffer on a device, brought up to date by the rows that are new.

    Args:
        buffer: on the host. Transitions that are changed after they were added are not seen.
        device: of the copy.
    """

    def __init__(self, buffer: PackedReplayBuffer, device: torch.device) -> None:
        self.buffer = buffer
        self.rows = torch.zeros_like(buffer.rows, device=device)
        self._seen = 0

    def refresh(self) -> int:
        """Copy what was added since the last call; return how many rows hold transitions."""
        buffer, size, envs = self.buffer, self.buffer.buffer_size, self.buffer.n_envs
        new = min(buffer.added - self._seen, size)
        first = buffer.pos - new
        for start, stop in ((max(first, 0), buffer.pos), (size + first, size)):
            if start < stop:  # the second part is empty unless the new rows wrap around
                part = slice(start * envs, stop * envs)
                self.rows[part].copy_(buffer.rows[part], non_blocking=True)
        self._seen = buffer.added
        return buffer.size() * envs


class CapturedUpdates:
    """A number of updates on samples from a device table, captured once and launched as one graph.

    The graph reads and writes the tensors that it was captured with; ``fits`` says whether they are still in use.
    Adam's constants, tau, the dual's target and the number of rows are inputs, so schedules act on it.

    Args:
        update: from ``sac_update``, compiled or not.
        players: actor, critics and, with a dual variable, log alpha.
        target: parameters of the target critics.
        alpha: of a fixed coefficient, scalar; None with a dual variable.
        table: of the transitions.
        batch_size: transitions per update.
        updates: number of updates in a launch.
    """

    def __init__(
        self,
        update: Callable[..., tuple[Tensor, Tensor]],
        players: Sequence[AdamState],
        target: Sequence[Tensor],
        alpha: Tensor | None,
        table: DeviceTable,
        batch_size: int,
        updates: int,
    ) -> None:
        self._update, self._players, self._target, self._alpha = update, players, target, alpha
        self._table, self._batch_size, self._updates = table, batch_size, updates
        device, dtype = target[0].device, target[0].dtype
        # In double precision: a single one could not count the rows of a large buffer.
        self._inputs = torch.zeros(updates, _NETWORKS + _DUAL + 1, dtype=torch.float64, device=device)
        self._noise = torch.zeros(2, batch_size, table.buffer.action_dim, dtype=dtype, device=device)
        self._discounts = torch.zeros(batch_size, 1, device=device)
        self._pointers = _pointers(players, target)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._rows: list[Tensor] = []

    def fits(self) -> bool:
        """Whether the agent still holds the tensors of the graph."""
        live = all(player.is_live() for player in self._players)
        return live and _pointers(self._players, self._target) == self._pointers

    @torch.no_grad()
    def launch(self, constants: Sequence[Sequence[float]], gamma: float) -> Tensor:
        """Take the updates, without waiting for them.

        Args:
            constants: for each update: Adam's of the critics and of the actor, tau, and the dual's or zeros.
            gamma: discount.

        Returns:
            Metrics (updates, n), on the device.
        """
        rows = float(self._table.refresh())
        inputs = torch.tensor([[*row, rows] for row in constants], dtype=torch.float64)
        self._inputs.copy_(inputs, non_blocking=True)  # from unpinned memory: staged at once, sent in its turn
        self._discounts.fill_(gamma)
        if self._graph is None:
            self._take_updates()
        else:
            self._graph.replay()
        return torch.stack(self._rows)

    @torch.no_grad()
    def capture(self) -> None:
        """Capture the updates, after a rehearsal that compiles; what the rehearsal changes is put back."""
        changed = [*_tensors(self._players), *self._target]
        before = [tensor.clone() for tensor in changed]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._take_updates()
        torch.cuda.current_stream().wait_stream(stream)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._take_updates()
        self._graph = graph

    def _take_updates(self) -> None:
        self._rows = []
        actor, critic, *dual = (Player(p.parameters, p.exp_avgs, p.exp_avg_sqs) for p in self._players)
        for inputs in self._inputs:
            numbers = inputs[:_NETWORKS].to(self._target[0].dtype)
            temperature = self._temperature(dual, inputs[_NETWORKS : _NETWORKS + _DUAL])
            row, _ = self._update(actor, critic, self._target, temperature, self._batch(inputs[-1]), numbers)
            self._rows.append(row)

    def _temperature(self, dual: list[Player], numbers: Tensor) -> LearnedAlpha | GivenAlpha:
        if self._alpha is not None:
            return GivenAlpha(self._alpha, self._alpha)
        return LearnedAlpha(dual[0], numbers.to(dual[0].parameters[0].dtype))

    def _batch(self, rows: Tensor) -> Batch:
        uniform = torch.rand(self._batch_size, dtype=torch.float64, device=rows.device)
        indices = (uniform * rows).long()
        samples = unpack(self._table.rows[indices], self._table.buffer.columns)
        noise, next_noise = self._noise
        noise.normal_()
        next_noise.normal_()
        return Batch(
            samples.observations,
            samples.actions,
            samples.next_observations,
            samples.rewards,
            samples.dones,
            self._discounts,
            noise,
            next_noise,
        )


def _tensors(players: Sequence[AdamState]) -> list[Tensor]:
    return [t for p in players for group in (p.parameters, p.exp_avgs, p.exp_avg_sqs) for t in group]


def _pointers(players: Sequence[AdamState], target: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in (*_tensors(players), *target)]
