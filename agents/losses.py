"""The losses of SAC and DiscreteSAC as pure functions. Shapes: B batch, A actions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_target(rewards: Tensor, dones: Tensor, discounts: Tensor | float, next_values: Tensor) -> Tensor:
    r"""Return the Bellman target.

    $$y = r + \gamma (1 - d)\, V(s')$$

    Args:
        rewards: (B, 1) floating.
        dones: (B, 1) floating, 1 where the episode *terminated* (a time limit bootstraps).
        discounts: (B, 1) or a number: gamma, or gamma^n for n-step returns.
        next_values: (B, 1) soft value of the next state.

    Returns:
        (B, 1).

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, eq. 2.
    """
    return rewards + (1 - dones) * discounts * next_values


def critic_loss(q_values: Sequence[Tensor], target: Tensor) -> Tensor:
    r"""Return half the summed mean squared error of the critics, minimised.

    $$\tfrac12 \sum_i \mathrm{mean}\,(Q_i - y)^2$$

    Args:
        q_values: one (B, 1) tensor for each critic.
        target: (B, 1), without gradient.

    Returns:
        scalar.

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, eq. 5.
    """
    return 0.5 * reduce(torch.add, [F.mse_loss(q, target) for q in q_values])


def clipped_critic_loss(
    q_values: Sequence[Tensor], target_q_values: Sequence[Tensor], target: Tensor, clip: float
) -> Tensor:
    r"""Return the Q-clip loss of the critics, minimised.

    $$\tfrac12 \sum_i \mathrm{mean} \max\left[(Q_i - y)^2, (Q'_i + \mathrm{clip}(Q_i - Q'_i, -c, c) - y)^2\right]$$

    Args:
        q_values: one (B, 1) tensor for each critic.
        target_q_values: the same of the target critics at the same state and action, without gradient.
        target: (B, 1), without gradient.
        clip: c, above 0.

    Returns:
        scalar.

    Reference:
        Zhou et al. (2022), SD-SAC, arXiv 2209.10081 (Q-clip).
    """
    losses = []
    for q, old in zip(q_values, target_q_values, strict=True):
        near = old + (q - old).clamp(-clip, clip)
        losses.append(torch.maximum((q - target).square(), (near - target).square()).mean())
    return 0.5 * reduce(torch.add, losses)


def actor_loss(log_probs: Tensor, q_values: Tensor, alpha: Tensor) -> Tensor:
    r"""Return SAC's policy loss for reparameterised actions, minimised.

    $$\mathrm{mean}\,(\alpha \log\pi(a|s) - Q(s, a))$$

    Args:
        log_probs: (B, 1), of reparameterised actions.
        q_values: (B, 1), minimum over the critics.
        alpha: scalar or (B, 1), detached.

    Returns:
        scalar.

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, eq. 7.
    """
    return (alpha * log_probs - q_values).mean()


def discrete_value(log_probs: Tensor, q_values: Tensor, alpha: Tensor) -> Tensor:
    r"""Return the soft value of a categorical policy, non-negated.

    $$V(s) = \sum_a \pi(a|s) \left[Q(s, a) - \alpha \log\pi(a|s)\right]$$

    The policy loss is the negative of its mean with the Q-values detached.

    Args:
        log_probs: (B, A) log pi.
        q_values: (B, A).
        alpha: scalar or (B, 1), detached.

    Returns:
        (B, 1).

    Reference:
        Christodoulou (2019), arXiv 1910.07207, eq. 10.
    """
    return (log_probs.exp() * (q_values - alpha * log_probs)).sum(dim=1, keepdim=True)


def pool(q_values: Sequence[Tensor], *, average: bool) -> Tensor:
    """Return one value for each action: the mean of the critics (SD-SAC's double average) or their minimum.

    Args:
        q_values: one (B, A) tensor for each critic.
        average: whether the mean is meant.

    Returns:
        (B, A).
    """
    stacked = torch.stack(list(q_values))
    return stacked.mean(dim=0) if average else stacked.amin(dim=0)
