"""A player without what its observation has beyond the task's: an ordinary SAC."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from entroreg.agents.sac import SAC
from entroreg.controllers import Dual


def without_last_components(player: SAC, plain: SAC, value: float = 0.0) -> SAC:
    """Copy a player into an agent whose observation lacks the last components; it acts as if these had one value.

    Args:
        player: whose observation has more components, such as a temperature.
        plain: fresh, with the same networks on the task's own observation; changed in place.
        value: of what is left out; exact at 0, else a part of the biases.

    Returns:
        ``plain``, with weights, dual variable and counters of the player; moments where the optimisers are alike.
    """
    (size,) = plain.observation_space.shape  # type: ignore[misc]
    given, fresh = player.policy.state_dict(), plain.policy.state_dict()
    weights = {name: _fitting(weight, fresh[name], size) for name, weight in given.items()}
    for name, weight in given.items() if value else ():
        more = weight.shape[-1] - fresh[name].shape[-1]
        if more:
            bias = name.removesuffix("weight") + "bias"
            weights[bias] = weights[bias] + value * weight[:, size : size + more].sum(dim=1)
    plain.policy.load_state_dict(weights)
    for mine, other in ((plain.actor, player.actor), (plain.critic, player.critic)):
        if type(mine.optimizer) is type(other.optimizer):
            mine.optimizer.load_state_dict(_fitting_moments(mine.optimizer, other.optimizer, size))
    if isinstance(player.controller, Dual):
        plain.require_controller().load_state_dict(player.controller.state_dict())
    plain.sync_ent_coef()
    plain.num_timesteps, plain._n_updates = player.num_timesteps, player._n_updates
    return plain


def _fitting(value: Tensor, like: Tensor, column: int) -> Tensor:
    """Return a tensor without the columns, from the given one on, that it has more than the other."""
    if value.shape == like.shape:
        return value
    more = value.shape[1] - like.shape[1]
    return torch.cat([value[:, :column], value[:, column + more :]], dim=1)


def _fitting_moments(mine: torch.optim.Optimizer, other: torch.optim.Optimizer, column: int) -> dict[str, Any]:
    state = copy.deepcopy(other.state_dict())
    for index, parameter in enumerate(mine.param_groups[0]["params"]):
        for name, value in state["state"].get(index, {}).items():
            if value.dim() == 2:
                state["state"][index][name] = _fitting(value, parameter, column)
    return state
