"""The tensors of several agents as rows of stacked ones. P agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from entroreg.agents.engine.adam import AdamState
from entroreg.agents.engine.engine import names_of
from entroreg.agents.engine.player import Player
from entroreg.controllers import Dual


class Stack:
    """What P agents learn (parameters, moments, targets, log alphas), each in one tensor with a row for an agent.

    Args:
        agents: SAC, alike in shapes and kind of controller; their tensors become the rows.

    Attributes:
        target: parameters of the target critics, in the order of the critics' optimisers.
        critic: stacked (P, ...).
        actor: stacked (P, ...).
        dual: log alphas (P, 1) with their moments, or None where they are not learned.
    """

    def __init__(self, agents: Sequence[Any]) -> None:
        self._agents = agents
        self._optimizers = [_optimizers(agent) for agent in agents]
        self._states = [[AdamState(optimizer) for optimizer in own] for own in self._optimizers]
        owned = [_tensors(agent, states) for agent, states in zip(agents, self._states, strict=True)]
        groups = [[_share(alike) for alike in zip(*group, strict=True)] for group in zip(*owned, strict=True)]
        self.target = groups[0]
        self.critic, self.actor, *dual = (Player(*groups[i : i + 3]) for i in range(1, len(groups), 3))
        self.dual = dual[0] if dual else None
        self._tensors = [tensor for groups in owned for group in groups for tensor in group]
        self._pointers = [tensor.data_ptr() for tensor in self._tensors]

    def is_live(self) -> bool:
        """Whether the agents' tensors are still the rows."""
        same = [_optimizers(agent) for agent in self._agents] == self._optimizers
        live = same and all(state.is_live() for states in self._states for state in states)
        return live and [tensor.data_ptr() for tensor in self._tensors] == self._pointers

    def constants(self, *, move_targets: bool) -> Tensor:
        """Return the update's constants (P, 13)."""
        rows = [
            (*critic.constants(), *actor.constants(), agent.tau if move_targets else 0.0)
            for agent, (critic, actor, *_) in zip(self._agents, self._states, strict=True)
        ]
        return _like(rows, self.target[0])

    def dual_constants(self) -> Tensor:
        """Return the constants of the dual variables (P, 9)."""
        rows = []
        for agent, (_, _, dual) in zip(self._agents, self._states, strict=True):
            problem = agent.controller.problem
            rows.append((*dual.constants(), problem.current_target(), problem.log_minimum, problem.log_maximum))
        assert self.dual is not None
        return _like(rows, self.dual.parameters[0])

    def count_step(self) -> None:
        """Count one step of every optimiser and dual problem."""
        for agent, states in zip(self._agents, self._states, strict=True):
            for state in states:
                state.count_step()
            if self.dual is not None:
                agent.controller.problem.step += 1


def _optimizers(agent: Any) -> list[torch.optim.Optimizer]:
    """Return those of the critic, the actor and, where it is learned, alpha."""
    dual = [agent.controller.optimizer] if isinstance(agent.controller, Dual) else []
    return [agent.critic.optimizer, agent.actor.optimizer, *dual]


def _tensors(agent: Any, states: Sequence[AdamState]) -> list[list[Tensor]]:
    """Return the target's parameters in the critic's order, then parameters and moments of each optimiser."""
    named = dict(agent.critic_target.named_parameters())
    groups = [[named[name] for name in names_of(agent.critic)]]
    for state in states:
        groups += [state.parameters, state.exp_avgs, state.exp_avg_sqs]
    return groups


def _share(alike: Sequence[Tensor]) -> Tensor:
    """Return P tensors stacked, of which each from now on is a row."""
    stacked = torch.stack(list(alike))
    for tensor, row in zip(alike, stacked, strict=True):
        tensor.data = row
    return stacked


def _like(rows: Sequence[Sequence[float]], tensor: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=tensor.dtype).to(tensor.device, non_blocking=True)


def keep_state_dicts_apart(agent: Any) -> None:
    """Let state dicts hold copies: torch saves the whole storage of a view, here that of all members."""
    agent.policy.register_state_dict_post_hook(_copy_module_state)
    for optimizer in (agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer):
        if optimizer is not None:
            optimizer.register_state_dict_post_hook(_copy_optimizer_state)


def _copy_module_state(_module: nn.Module, state: dict[str, Any], _prefix: str, _metadata: dict[str, Any]) -> None:
    state.update({name: value.clone() for name, value in state.items() if isinstance(value, Tensor)})


def _copy_optimizer_state(_optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    moments = {
        index: {name: value.clone() if isinstance(value, Tensor) else value for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": moments}
