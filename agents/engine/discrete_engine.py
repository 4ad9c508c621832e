"""The engine of DiscreteSAC."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from entroreg.agents.engine.discrete_update import DISCRETE_METRICS, DiscreteBatch, Options, discrete_update
from entroreg.agents.engine.engine import Engine, Graph, Places, PureUpdate, names_of, place_of, problem_of


class DiscreteSACEngine(Engine):
    """The compiled update of one DiscreteSAC agent."""

    metrics = DISCRETE_METRICS
    options = Options._fields

    @staticmethod
    def pure_update(agent: Any) -> tuple[PureUpdate, Places]:
        """Return an agent's update, not compiled, and where the target parameters stand, in its order."""
        options = Options(*(getattr(agent, name) for name in Options._fields))
        actor_names, critic_names = names_of(agent.actor), names_of(agent.critic)
        places = [place_of(agent.critic_target, name) for name in critic_names]
        if options.entropy_penalty:
            places += [place_of(agent.policy.actor_target, name) for name in actor_names]
        update = discrete_update(agent.actor, actor_names, agent.critic, critic_names, problem_of(agent), options)
        return update, places

    def _batch(self, graph: Graph, samples: Any, discounts: Tensor) -> DiscreteBatch:
        return DiscreteBatch(
            samples.observations,
            samples.actions,
            samples.next_observations,
            samples.rewards,
            samples.dones,
            discounts,
        )
