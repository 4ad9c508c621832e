"""Which agents the engine can take: those whose update is a pure function of their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac.policies import Actor
from torch import nn

from entroreg.agents.discrete_policy import CategoricalActor, DiscreteCritic
from entroreg.agents.engine.adam import why_not_adam

# They draw random numbers or change buffers in a forward pass.
_IMPURE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.modules.instancenorm._InstanceNorm)


def why_not_own(agent: Any, cls: type, methods: Sequence[str]) -> str | None:
    """Return which of the methods that the engine replaces an agent has of its own, or None.

    Args:
        agent: an instance of cls.
        cls: class of the agents that the engine knows.
        methods: their names.
    """
    own = [name for name in methods if getattr(type(agent), name) is not getattr(cls, name)]
    return f"{type(agent).__name__} has {own[0]} of its own" if own else None


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
    return _why_not_pure(actor, critic, agent.critic_target) or _why_not_optimized(actor, critic)


def why_not_discrete_sac(agent: Any) -> str | None:
    """Return why the engine cannot take an agent, in words for its log, or None where it can.

    Args:
        agent: DiscreteSAC, set up.
    """
    actor, critic = agent.actor, agent.critic
    if type(actor).log_probs is not CategoricalActor.log_probs:
        return f"{type(actor).__name__} has log_probs of its own"
    if type(critic).forward is not DiscreteCritic.forward:
        return f"{type(critic).__name__} has a forward of its own"
    targets = agent.critic_target, agent.policy.actor_target
    return _why_not_pure(actor, critic, *targets) or _why_not_optimized(actor, critic)


def _why_not_pure(*networks: Any) -> str | None:
    """Return why some forward pass is no pure function of the parameters."""
    for network in networks:
        for name, module in network.named_modules():
            if isinstance(module, _IMPURE):
                return f"{name} is a {type(module).__name__}, which is no pure function of its parameters"
        buffers = [name for name, _ in network.named_buffers()]
        if buffers:
            return f"{type(network).__name__} has buffers ({buffers[0]}), which a forward pass may change"
    return None


def _why_not_optimized(*networks: Any) -> str | None:
    """Return why the engine cannot take an optimiser's step."""
    return next(filter(None, map(_why_not_stepped, networks)), None)


def _why_not_stepped(network: Any) -> str | None:
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
