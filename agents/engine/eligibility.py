"""Which agents the engine can take: those whose update is a pure function of their parameters."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac.policies import Actor
from torch import nn

from entroreg.agents.engine.adam import why_not_adam

# They draw random numbers or change buffers in a forward pass.
_IMPURE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.modules.instancenorm._InstanceNorm)


def why_not_sac(agent: Any) -> str | None:
    """Return why the engine cannot take an agent, in words for its log, or None where it can.

    Args:
        agent: SAC, set up.
    """
    actor, critic = agent.actor, agent.critic
    if agent.use_sde:
        return "gSDE draws its noise outside the update"
    if type(actor.action_dist) is not SquashedDiagGaussianDistribution:
        return f"the policy's distribution is {type(actor.action_dist).__name__}"
    if type(actor).action_log_prob is not Actor.action_log_prob:
        return f"{type(actor).__name__} has an action_log_prob of its own"
    if type(critic).forward is not ContinuousCritic.forward:
        return f"{type(critic).__name__} has a forward of its own"
    for network in (actor, critic, agent.critic_target):
        for name, module in network.named_modules():
            if isinstance(module, _IMPURE):
                return f"{name} is a {type(module).__name__}, which is no pure function of its parameters"
        buffers = [name for name, _ in network.named_buffers()]
        if buffers:
            return f"{type(network).__name__} has buffers ({buffers[0]}), which a forward pass may change"
    for network in (actor, critic):
        reason = _why_not_optimized(network)
        if reason is not None:
            return reason
    return None


def _why_not_optimized(network: Any) -> str | None:
    """Return why the engine cannot take the optimiser's step of a network."""
    name, optimizer = type(network).__name__, network.optimizer
    parameters = list(network.parameters())
    if {id(parameter) for parameter in parameters} != _optimized(optimizer):
        return f"the parameters of {name} are not those of its optimiser"
    if not all(parameter.requires_grad for parameter in parameters):
        return f"{name} has frozen parameters"
    if any(parameter._backward_hooks for parameter in parameters):
        return f"{name} has hooks on its gradients"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return f"the optimiser of {name} has step hooks"
    return why_not_adam(optimizer)


def _optimized(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
