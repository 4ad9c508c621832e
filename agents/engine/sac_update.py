"""One update of SAC as a pure function. Shapes: B batch, A actions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F

from entroreg import measures
from entroreg.agents import losses
from entroreg.agents.engine.adam import CONSTANTS
from entroreg.agents.engine.player import (
    GivenAlpha,
    LearnedAlpha,
    Player,
    coefficients,
    dual_step,
    take_step,
    total_of,
)
from entroreg.controllers.dual import DualProblem

# In the order of their causes: the first that is not finite is named.
METRICS = ("entropy_bound", "critic_loss", "critic_gradient", "actor_loss", "actor_gradient")
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Batch(NamedTuple):
    """Transitions with the noise of their actions: (B, ...) each, observations a tensor or a dict of them."""

    observations: Any
    actions: Tensor
    next_observations: Any
    rewards: Tensor
    dones: Tensor
    discounts: Tensor
    noise: Tensor
    next_noise: Tensor


class Networks(NamedTuple):
    """The modules whose parameters are passed in, and the names of these in the optimisers' order."""

    actor: nn.Module
    actor_names: tuple[str, ...]
    critic: nn.Module
    critic_names: tuple[str, ...]
    squash_epsilon: float


class _DistributionParameters(nn.Module):
    """An actor whose call gives mean and log standard deviation, for ``functional_call``."""

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self.actor = actor
        own = type(actor).get_action_dist_params is not Actor.get_action_dist_params
        self._one_head = not own and type(actor.mu) is type(actor.log_std) is nn.Linear

    def forward(self, observations: Any) -> tuple[Tensor, Tensor]:
        actor: Any = self.actor
        if not self._one_head:
            mean, log_std, _ = actor.get_action_dist_params(observations)
            return mean, log_std
        # Both heads in one product: two with a few columns each cost twice as much.
        latent = actor.latent_pi(actor.extract_features(observations, actor.features_extractor))
        weight = torch.cat([actor.mu.weight, actor.log_std.weight])
        heads = F.linear(latent, weight, torch.cat([actor.mu.bias, actor.log_std.bias]))
        mean, log_std = heads.chunk(2, dim=1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


def sac_update(
    networks: Networks, problem: DualProblem | None, entropy_backup: bool
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the function that updates alpha, critics, actor and target critics once, in place.

    The order is Stable-Baselines3's: alpha is read before its own step, and the actor's loss sees the new critics.

    Args:
        networks: actor and critics.
        problem: of the dual variable, or None where the controller takes its step outside.
        entropy_backup: whether the Bellman target contains the entropy of the next state.

    Returns:
        A function of (actor, critic, target parameters, temperature, batch, constants (13,)) that returns the
        metrics, DUAL_METRICS (with a learned alpha) and METRICS, and the entropy (B, 1) of the actions. The
        constants are Adam's of the critics, Adam's of the actor, and tau.
    """
    actor_module = _DistributionParameters(networks.actor)
    actor_names = [f"actor.{name}" for name in networks.actor_names]

    def sample(parameters: Sequence[Tensor], observations: Any, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        named = dict(zip(actor_names, parameters, strict=True))
        mean, log_std = functional_call(actor_module, named, (observations,))
        actions = torch.tanh(mean + log_std.exp() * noise)
        log_probs = -(0.5 * noise.square() + log_std + _HALF_LOG_2PI).sum(dim=1, keepdim=True)
        squash = torch.log(1 - actions.square() + networks.squash_epsilon).sum(dim=1, keepdim=True)
        return actions, log_probs - squash, log_std

    def q_values(parameters: Sequence[Tensor], observations: Any, actions: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(networks.critic_names, parameters, strict=True))
        values: tuple[Tensor, ...] = functional_call(networks.critic, named, (observations, actions))
        return values

    def smallest(values: tuple[Tensor, ...]) -> Tensor:
        return torch.cat(values, dim=1).min(dim=1, keepdim=True).values

    def update(
        actor: Player,
        critic: Player,
        target: Sequence[Tensor],
        temperature: LearnedAlpha | GivenAlpha,
        batch: Batch,
        constants: Tensor,
    ) -> tuple[Tensor, Tensor]:
        alpha, next_alpha = coefficients(temperature)
        next_actions, next_log_probs, _ = sample(actor.parameters, batch.next_observations, batch.next_noise)
        next_values = smallest(q_values(target, batch.next_observations, next_actions))
        if entropy_backup:
            next_values = next_values - next_alpha * next_log_probs
        bellman = losses.soft_target(batch.rewards, batch.dones, batch.discounts, next_values)

        def critic_loss(parameters: Sequence[Tensor]) -> Tensor:
            return losses.critic_loss(q_values(parameters, batch.observations, batch.actions), bellman)

        def actor_loss(parameters: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            actions, log_probs, log_std = sample(parameters, batch.observations, batch.noise)
            values = smallest(q_values(critic_parameters, batch.observations, actions))
            return losses.actor_loss(log_probs, values, alpha), (log_probs, log_std)

        critic_gradients, critic_value = grad_and_value(critic_loss)(list(critic.parameters))
        critic_parameters = take_step(critic, critic_gradients, constants[:CONSTANTS])
        actor_gradients, (actor_value, (log_probs, log_std)) = grad_and_value(actor_loss, has_aux=True)(
            list(actor.parameters)
        )
        take_step(actor, actor_gradients, constants[CONSTANTS : 2 * CONSTANTS])
        tau = constants[2 * CONSTANTS]
        for old, new in zip(target, critic_parameters, strict=True):
            old.copy_((1 - tau) * old + tau * new)

        entropy = measures.pathwise_entropy(log_probs)
        metrics = [
            measures.tanh_gaussian_entropy_bound(log_std).mean(),
            critic_value,
            total_of(critic_gradients),
            actor_value,
            total_of(actor_gradients),
        ]
        if isinstance(temperature, LearnedAlpha):
            assert problem is not None
            metrics = [*dual_step(problem, temperature, alpha, entropy), *metrics]
        return torch.stack([metric.float() for metric in metrics]), entropy

    return update
