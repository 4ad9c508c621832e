"""One update of DiscreteSAC as a pure function. Shapes: B batch, A actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from entroreg import measures, penalties
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
DISCRETE_METRICS = ("critic_loss", "critic_gradient", "actor_loss", "actor_gradient")


class DiscreteBatch(NamedTuple):
    """Transitions: (B, ...) each, observations a tensor or a dict of them."""

    observations: Any
    actions: Tensor
    next_observations: Any
    rewards: Tensor
    dones: Tensor
    discounts: Tensor


class Options(NamedTuple):
    """The arguments of DiscreteSAC that shape its losses."""

    entropy_backup: bool
    double_average_q: bool
    q_clip: float | None
    entropy_penalty: float


class _LogProbs(nn.Module):
    """An actor whose call gives log-probabilities, for ``functional_call``."""

    def __init__(self, actor: nn.Module) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, observations: Any) -> Tensor:
        result: Tensor = self.actor.log_probs(observations)  # type: ignore[operator]
        return result


def discrete_update(
    actor_module: nn.Module,
    actor_names: Sequence[str],
    critic_module: nn.Module,
    critic_names: Sequence[str],
    problem: DualProblem | None,
    options: Options,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the function that updates critics, actor, alpha and targets once, in place.

    The order is DiscreteSAC's: the actor's loss sees the critics as they were, and alpha steps last.

    Args:
        actor_module: the actor.
        actor_names: names of its parameters in the order of its optimiser.
        critic_module: the critics.
        critic_names: names of their parameters in the order of their optimiser.
        problem: of the dual variable, or None where the controller takes its step outside.
        options: of the agent.

    Returns:
        A function of (actor, critic, target parameters, temperature, batch, constants (13,)) that returns the
        metrics, DUAL_METRICS (with a learned alpha) and DISCRETE_METRICS, and the entropy (B, 1) of the policy. The
        target parameters are those of the critics and, with an entropy penalty, of the actor; the constants are
        Adam's of the critics, Adam's of the actor, and tau.
    """
    wrapped = _LogProbs(actor_module)
    wrapped_names = [f"actor.{name}" for name in actor_names]

    def log_probs_of(parameters: Sequence[Tensor], observations: Any) -> Tensor:
        result: Tensor = functional_call(
            wrapped, dict(zip(wrapped_names, parameters, strict=True)), (observations,)
        )
        return result

    def q_values(parameters: Sequence[Tensor], observations: Any) -> tuple[Tensor, ...]:
        named = dict(zip(critic_names, parameters, strict=True))
        values: tuple[Tensor, ...] = functional_call(critic_module, named, (observations,))
        return values

    def update(
        actor: Player,
        critic: Player,
        target: Sequence[Tensor],
        temperature: LearnedAlpha | GivenAlpha,
        batch: DiscreteBatch,
        constants: Tensor,
    ) -> tuple[Tensor, Tensor]:
        alpha, next_alpha = coefficients(temperature)
        critic_target, actor_target = target[: len(critic_names)], target[len(critic_names) :]
        actions = batch.actions.long()

        next_q = losses.pool(q_values(critic_target, batch.next_observations), average=options.double_average_q)
        next_log_probs = log_probs_of(actor.parameters, batch.next_observations)
        backup = next_alpha if options.entropy_backup else torch.zeros_like(next_alpha)
        next_values = losses.discrete_value(next_log_probs, next_q, backup)
        bellman = losses.soft_target(batch.rewards, batch.dones, batch.discounts, next_values)

        def critic_loss(parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            values = q_values(parameters, batch.observations)
            taken = [value.gather(1, actions) for value in values]
            pooled = losses.pool(values, average=options.double_average_q)
            if options.q_clip is None:
                return losses.critic_loss(taken, bellman), pooled
            old = [value.gather(1, actions) for value in q_values(critic_target, batch.observations)]
            return losses.clipped_critic_loss(taken, old, bellman, options.q_clip), pooled

        critic_gradients, (critic_value, pooled) = grad_and_value(critic_loss, has_aux=True)(
            list(critic.parameters)
        )

        def actor_loss(parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            log_probs = log_probs_of(parameters, batch.observations)
            entropy = measures.categorical_entropy(log_probs)
            loss = -losses.discrete_value(log_probs, pooled, alpha).mean()
            if options.entropy_penalty:
                reference = measures.categorical_entropy(log_probs_of(actor_target, batch.observations))
                loss = loss + options.entropy_penalty * penalties.squared(entropy, reference).mean()
            return loss, entropy

        actor_gradients, (actor_value, entropy) = grad_and_value(actor_loss, has_aux=True)(list(actor.parameters))
        new = take_step(critic, critic_gradients, constants[:CONSTANTS])
        new_actor = take_step(actor, actor_gradients, constants[CONSTANTS : 2 * CONSTANTS])
        tau = constants[2 * CONSTANTS]
        for old, value in zip(target, [*new, *new_actor][: len(target)], strict=True):
            old.copy_((1 - tau) * old + tau * value)

        metrics = [critic_value, total_of(critic_gradients), actor_value, total_of(actor_gradients)]
        if isinstance(temperature, LearnedAlpha):
            assert problem is not None
            metrics = [*dual_step(problem, temperature, alpha, entropy), *metrics]
        return torch.stack([metric.float() for metric in metrics]), entropy

    return update
