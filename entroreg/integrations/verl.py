"""Clip-Cov and KL-Cov as policy losses of verl: ``policy_loss.loss_mode=entroreg_clip_cov`` or ``entroreg_kl_cov``.

verl loads this module in each of its workers by the entry point ``entroreg`` of the group ``verl.plugins``. Where
the import fails verl goes on without a word; ``import entroreg.integrations.verl`` says why. B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg.integrations.logged import as_numbers
from entroreg.integrations.versions import require
from entroreg.policy_gradient import ClipCov, KLCov, PolicyLoss
from entroreg.policy_gradient.reductions import Reduction

require("verl")
from verl.trainer.ppo.core_algos import agg_loss, register_policy_loss  # noqa: E402  after the check of its version

__all__ = ["clip_cov", "kl_cov"]


def clip_cov(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return Clip-Cov's loss of a micro-batch, minimised, with the settings of verl's actor config.

    Differs from verl's own ``clip_cov``: no NaN from an empty mask, from what stands at masked places or from a
    ratio that overflows. The covariances are those of the micro-batch, as in verl.

    Args:
        old_log_prob: (B, T) floating, of the policy that wrote the responses.
        log_prob: (B, T) floating, log pi of the tokens of the responses.
        advantages: (B, T) floating.
        response_mask: (B, T), boolean or 0 and 1.
        loss_agg_mode: one of verl's, which its own ``agg_loss`` carries out.
        config: verl's actor config: ``policy_loss.clip_cov_ratio``, ``clip_cov_lb``, ``clip_cov_ub``;
            ``clip_ratio``, ``clip_ratio_low``, ``clip_ratio_high``; ``global_batch_info``.
        rollout_is_weights: (B, T) weights of rollout correction, or None.

    Returns:
        Scalar loss, and metrics by name.

    Raises:
        TypeError: no config, or a setting that is no number.
        ValueError: a setting out of range, shapes that do not fit, or NaN among the kept tokens.

    Example:
        >>> from verl.trainer.ppo.core_algos import get_policy_loss_fn
        >>> get_policy_loss_fn("entroreg_clip_cov") is clip_cov
        True

    Reference:
        Cui et al. (2025), arXiv 2505.22617, section 4.2.
    """
    settings = _policy_loss_of(config)
    low, high = config.clip_ratio_low, config.clip_ratio_high
    control = ClipCov(
        fraction=settings.clip_cov_ratio,
        band=(settings.clip_cov_lb, settings.clip_cov_ub),
        clip=(config.clip_ratio if low is None else low, config.clip_ratio if high is None else high),
    )
    aggregate = _aggregation(loss_agg_mode, config.global_batch_info, rollout_is_weights)
    return _loss(control, aggregate, old_log_prob, log_prob, advantages, response_mask)


def kl_cov(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return KL-Cov's loss of a micro-batch, minimised, with the settings of verl's actor config.

    Differs from verl's own ``kl_cov``: as ``clip_cov``, and a difference of log-probabilities below the resolution
    of their dtype is none; ``entroreg/share_inert`` says of how many chosen tokens that holds.

    Args:
        old_log_prob: (B, T) floating, of the policy that wrote the responses.
        log_prob: (B, T) floating, log pi of the tokens of the responses.
        advantages: (B, T) floating.
        response_mask: (B, T), boolean or 0 and 1.
        loss_agg_mode: one of verl's, which its own ``agg_loss`` carries out.
        config: verl's actor config: ``policy_loss.kl_cov_ratio`` and ``ppo_kl_coef``; ``global_batch_info``.
        rollout_is_weights: (B, T) weights of rollout correction, or None.

    Returns:
        Scalar loss, and metrics by name.

    Raises:
        TypeError: no config, or a setting that is no number.
        ValueError: a setting out of range, shapes that do not fit, or NaN among the kept tokens.

    Example:
        >>> from verl.trainer.ppo.core_algos import get_policy_loss_fn
        >>> get_policy_loss_fn("entroreg_kl_cov") is kl_cov
        True

    Reference:
        Cui et al. (2025), arXiv 2505.22617, section 4.3.
    """
    settings = _policy_loss_of(config)
    control = KLCov(fraction=settings.kl_cov_ratio, beta=settings.ppo_kl_coef)
    aggregate = _aggregation(loss_agg_mode, config.global_batch_info, rollout_is_weights)
    return _loss(control, aggregate, old_log_prob, log_prob, advantages, response_mask)


register_policy_loss("entroreg_clip_cov")(clip_cov)
register_policy_loss("entroreg_kl_cov")(kl_cov)


def _policy_loss_of(config: Any) -> Any:
    if getattr(config, "policy_loss", None) is None:
        raise TypeError(f"config must be verl's actor config, with policy_loss, got {type(config).__name__}")
    return config.policy_loss


def _loss(
    control: PolicyLoss, aggregate: Reduction, old: Tensor, log_probs: Tensor, advantages: Tensor, mask: Tensor
) -> tuple[Tensor, dict[str, float]]:
    loss, metrics = control(log_probs, old, advantages, mask.bool(), reduction=aggregate)
    numbers = as_numbers(metrics)
    numbers.pop("entropy")  # an estimate; verl logs the true one
    # verl's own names first, in their meaning of its plain PPO loss.
    named = {"actor/pg_clipfrac": numbers["share_clipped"], "actor/ppo_kl": numbers["kl"]}
    return loss, named | {f"entroreg/{name}": value for name, value in numbers.items()}


def _aggregation(mode: str, batch: Mapping[str, Any], weights: Tensor | None) -> Callable[..., Tensor]:
    """Return verl's aggregation of the losses of tokens, weighted, as a reduction."""

    def aggregate(losses: Tensor, mask: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        if weights is not None:
            losses = losses * torch.where(mask, weights, 0.0)
        total: Tensor = agg_loss(loss_mat=losses, loss_mask=mask, loss_agg_mode=mode, **_counts(batch, mask))
        return total

    return aggregate


def _counts(batch: Mapping[str, Any], mask: Tensor) -> dict[str, Any]:
    """Return verl's counts of the global batch; of one process's own at least 1, so that nothing divides 0 by 0."""
    counts = dict(batch)
    if counts.get("dp_size", 1) == 1:
        own = {"batch_num_tokens": mask.sum(), "global_batch_size": mask.any(dim=-1).sum()}
        counts |= {name: own[name].clamp(min=1) for name in own if counts.get(name) is None}
    return counts
