"""What the updates of all agents consist of: a player's step of Adam, and alpha with its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from entroreg.agents.engine.adam import CONSTANTS, adam_step
from entroreg.controllers.dual import DualProblem

DUAL_METRICS = ("alpha", "entropy", "target_entropy", "dual_loss")


class Player(NamedTuple):
    """Parameters of a network and their moments in Adam, in the optimiser's order."""

    parameters: Sequence[Tensor]
    exp_avgs: Sequence[Tensor]
    exp_avg_sqs: Sequence[Tensor]


class LearnedAlpha(NamedTuple):
    """Alpha as a dual variable that the update learns.

    Attributes:
        dual: log alpha (1,) with its moments.
        constants: (9,) float32: Adam's, then target entropy, smallest and largest log alpha.
    """

    dual: Player
    constants: Tensor


class GivenAlpha(NamedTuple):
    """Alpha as a controller gave it, which takes its step outside: scalars, or (B, 1)."""

    alpha: Tensor
    next_alpha: Tensor


def coefficients(temperature: LearnedAlpha | GivenAlpha) -> tuple[Tensor, Tensor]:
    """Return alpha at the observations and at the next ones, as they are before the update."""
    if isinstance(temperature, GivenAlpha):
        return temperature.alpha, temperature.next_alpha
    (log_alpha,) = temperature.dual.parameters
    alpha = log_alpha.exp().reshape(())
    return alpha, alpha


def dual_step(problem: DualProblem, temperature: LearnedAlpha, alpha: Tensor, entropy: Tensor) -> list[Tensor]:
    """Take the step of the dual variable in place and return its metrics."""
    target, log_minimum, log_maximum = temperature.constants[CONSTANTS:].unbind()
    (log_alpha,) = temperature.dual.parameters
    gradient, loss = grad_and_value(problem.dual_loss)(log_alpha, problem.violation(entropy, target))
    adam = temperature.constants[:CONSTANTS]
    take_step(temperature.dual, [gradient], adam, lambda new: torch.clamp(new, log_minimum, log_maximum))
    return [alpha, entropy.mean(), target, loss]


def take_step(
    player: Player,
    gradients: Sequence[Tensor],
    constants: Tensor,
    project: Callable[[Tensor], Tensor] = lambda new: new,
) -> list[Tensor]:
    """Take Adam's step in place and return the new parameters, of which gradients may be taken."""
    new, moments, squares = adam_step(player.parameters, gradients, player.exp_avgs, player.exp_avg_sqs, constants)
    new = [project(parameter) for parameter in new]
    for olds, news in zip(player, (new, moments, squares), strict=True):
        for old, value in zip(olds, news, strict=True):
            old.copy_(value)
    return new


def total_of(gradients: Sequence[Tensor]) -> Tensor:
    """Return a number that is NaN or infinite where any gradient is."""
    return torch.stack([gradient.sum() for gradient in gradients]).sum()
