"""The metrics of a policy loss as the named numbers that trainers log."""

from __future__ import annotations

import torch

from entroreg.policy_gradient import PolicyMetrics
from entroreg.policy_gradient.metrics import QUANTILES

_SCALARS = ("covariance", "share_selected", "share_clipped", "share_inert", "kl", "entropy")


def as_numbers(metrics: PolicyMetrics) -> dict[str, float]:
    """Return the metrics by name, the quantiles as ``covariance_quantile_<share>``; one device sync for all.

    Args:
        metrics: from a policy loss.

    Example:
        >>> from entroreg.policy_gradient import reinforce_loss
        >>> log_probs = torch.tensor([[-1.0, -2.0]])
        >>> found = as_numbers(reinforce_loss(log_probs, log_probs, torch.tensor([[1.0, 0.5]]))[1])
        >>> found["covariance"], found["covariance_quantile_0.5"]
        (0.125, 0.125)
    """
    names = [*_SCALARS, *(f"covariance_quantile_{share:g}" for share in QUANTILES)]
    scalars = torch.stack([getattr(metrics, name) for name in _SCALARS])
    return dict(zip(names, torch.cat([scalars, metrics.covariance_quantiles]).tolist(), strict=True))
