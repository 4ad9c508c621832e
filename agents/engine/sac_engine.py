"""The engine of SAC: its noise, and on a GPU whole updates as captured graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from entroreg.agents.engine.adam import CONSTANTS, AdamState
from entroreg.agents.engine.captured import CapturedUpdates, DeviceTable
from entroreg.agents.engine.engine import (
    Engine,
    Graph,
    Places,
    PureUpdate,
    dual_numbers,
    names_of,
    place_of,
    problem_of,
    standing,
)
from entroreg.agents.engine.player import DUAL_METRICS
from entroreg.agents.engine.sac_update import METRICS, Batch, Networks, sac_update
from entroreg.agents.packed_replay import PackedReplayBuffer
from entroreg.controllers import Dual, Fixed


class SACEngine(Engine):
    """The compiled update of one SAC agent."""

    metrics = METRICS
    options = ("entropy_backup",)

    def __init__(self) -> None:
        super().__init__()
        self._captured: dict[tuple[Any, ...], CapturedUpdates] = {}
        self._tables: dict[Any, DeviceTable] = {}

    @staticmethod
    def pure_update(agent: Any) -> tuple[PureUpdate, Places]:
        """Return an agent's update, not compiled, and where the target parameters stand, in its order."""
        names = names_of(agent.actor), names_of(agent.critic)
        networks = Networks(agent.actor, names[0], agent.critic, names[1], agent.actor.action_dist.epsilon)
        places = [place_of(agent.critic_target, name) for name in networks.critic_names]
        return sac_update(networks, problem_of(agent), agent.entropy_backup), places

    def _batch(self, graph: Graph, samples: Any, discounts: Tensor) -> Batch:
        noise, next_noise = graph.noise
        noise.normal_()  # the two draws of Stable-Baselines3, in its order
        next_noise.normal_()
        return Batch(
            samples.observations,
            samples.actions,
            samples.next_observations,
            samples.rewards,
            samples.dones,
            discounts,
            noise,
            next_noise,
        )

    @torch.no_grad()
    def launch(self, agent: Any, batch_size: int, taus: Sequence[float]) -> tuple[tuple[str, ...], Tensor]:
        """Take several updates as one captured graph, with batches that the device samples itself.

        Args:
            agent: SAC for which ``can_launch`` holds.
            batch_size: transitions per update.
            taus: for each update the share of the new critics in the targets.

        Returns:
            Names of the metrics, and their values (updates, n) on the device, which has not been waited for.
        """
        dual = isinstance(agent.controller, Dual)
        optimizers = [agent.actor.optimizer, agent.critic.optimizer, *([agent.ent_coef_optimizer] if dual else [])]
        players = [self._state(optimizer) for optimizer in optimizers]
        key = (batch_size, len(taus), agent.replay_buffer, agent.controller, agent.actor, agent.critic_target)
        captured = self._captured.get(key)
        if captured is None or not captured.fits():
            captured = self._captured[key] = self._capture(agent, players, batch_size, len(taus))
        constants = []
        for tau in taus:
            constants.append(numbers_of(agent, players, tau))
            for player in players:
                player.count_step()
            if dual:
                agent.controller.problem.step += 1
        rows = captured.launch(constants, agent.gamma)
        return ((*DUAL_METRICS, *METRICS) if dual else METRICS), rows

    def _capture(self, agent: Any, players: list[AdamState], batch_size: int, updates: int) -> CapturedUpdates:
        from entroreg.agents.engine.compiling import compile_update  # takes seconds to import

        buffer = agent.replay_buffer
        table = self._tables.setdefault(buffer, DeviceTable(buffer, agent.device))
        agent.policy.set_training_mode(True)
        update, target = self.pure_update(agent)
        alpha = None if isinstance(agent.controller, Dual) else agent.controller.value
        compiled = compile_update(update, agent.device)
        captured = CapturedUpdates(compiled, players, standing(target), alpha, table, batch_size, updates)
        with self._compiling(agent.device):
            captured.capture()
        return captured


def can_launch(agent: Any) -> bool:
    """Whether ``SACEngine.launch`` can take an agent's updates: on a GPU, with plain samples and a simple alpha."""
    return (
        agent.device.type == "cuda"
        and isinstance(agent.replay_buffer, PackedReplayBuffer)
        and agent._vec_normalize_env is None
        and isinstance(agent.controller, Dual | Fixed)
    )


def numbers_of(agent: Any, players: Sequence[AdamState], tau: float) -> tuple[float, ...]:
    """Return the numbers of one captured update: Adam's of critics and actor, tau, and the dual's or zeros."""
    actor, critic, *dual = players
    if not dual:
        return (*critic.constants(), *actor.constants(), tau, *([0.0] * (CONSTANTS + 3)))
    return (*critic.constants(), *actor.constants(), tau, *dual_numbers(dual[0], agent.controller.problem))
