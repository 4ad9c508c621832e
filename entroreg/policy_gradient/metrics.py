"""What a policy-gradient loss reports beside its value."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg import selectors
from entroreg._collectives import gather, total
from entroreg.policy_gradient.tokens import Tokens

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.99, 1.0)


class PolicyMetrics(NamedTuple):
    """Detached scalars over all kept tokens, of all processes of the group; 0 where nothing is kept.

    Attributes:
        entropy: mean entropy of the policy, nats; without the true ones an estimate from the tokens, -mean log pi.
        covariance: mean covariance of log-probability and advantage; entropy falls by the learning rate times
            it, to first order.
        covariance_quantiles: (6,) of the tokens' covariances, at ``QUANTILES``.
        share_selected: of the tokens, those whose gradient the loss cuts (Clip-Cov) or penalises (KL-Cov).
        share_clipped: of the tokens, those that PPO's clip holds.
        share_inert: of the selected tokens, those whose KL penalty is 0 because nothing has moved yet.
        kl: KL(old || new), nats, by the estimator d - 1 - log d with the ratio d.

    Example:
        >>> from entroreg.policy_gradient import reinforce_loss
        >>> log_probs = torch.tensor([[-1.0, -2.0]])
        >>> metrics = reinforce_loss(log_probs, log_probs, torch.tensor([[1.0, 0.5]]))[1]
        >>> metrics.entropy, metrics.kl
        (tensor(1.5000), tensor(0.))
    """

    entropy: Tensor
    covariance: Tensor
    covariance_quantiles: Tensor
    share_selected: Tensor
    share_clipped: Tensor
    share_inert: Tensor
    kl: Tensor


def token_covariance(tokens: Tokens, group: dist.ProcessGroup | None) -> Tensor:
    """Return the covariances (B, T), NaN for impossible tokens, which no selector chooses."""
    possible = tokens.mask & tokens.log_probs.detach().isfinite()
    log_probs = torch.where(possible, tokens.log_probs.detach(), 0.0)
    found = selectors.token_covariance(log_probs, tokens.advantages, possible, group=group)
    return torch.where(possible, found, torch.nan)


def measure(
    tokens: Tokens,
    entropy: Tensor | None,
    covariance: Tensor,
    selected: Tensor,
    clipped: Tensor,
    inert: Tensor,
    group: dist.ProcessGroup | None,
) -> PolicyMetrics:
    """Return the metrics of a loss.

    Args:
        tokens: of the batch.
        entropy: (B, T) true entropies, or None.
        covariance: (B, T) from ``token_covariance``.
        selected: (B, T) boolean.
        clipped: (B, T) boolean.
        inert: (B, T) boolean, of the selected.
        group: processes among which the batch is divided.
    """
    possible = covariance.isfinite()
    measured = -tokens.log_probs.detach() if entropy is None else entropy.detach().to(tokens.log_probs.dtype)
    counted = possible if entropy is None else tokens.mask
    ratio = tokens.log_ratio.detach()
    sums = [
        torch.where(counted, measured, 0.0).sum(),
        counted.sum(),
        torch.where(possible, covariance, 0.0).sum(),
        possible.sum(),
        (selected & tokens.mask).sum(),
        (clipped & tokens.mask).sum(),
        tokens.mask.sum(),
        inert.sum(),
        (ratio.exp() - 1.0 - ratio).sum(),  # 0 at masked places, where the ratio is 1
    ]
    found = total(torch.stack([value.double() for value in sums]), group)
    entropies, entropy_count, covariances, covariance_count, chosen, held, kept, still, divergence = found.unbind()
    return PolicyMetrics(
        _ratio(entropies, entropy_count),
        _ratio(covariances, covariance_count),
        quantiles_of(covariance, QUANTILES, group).float(),
        _ratio(chosen, kept),
        _ratio(held, kept),
        _ratio(still, chosen),
        _ratio(divergence, kept),
    )


def quantiles_of(values: Tensor, shares: tuple[float, ...], group: dist.ProcessGroup | None) -> Tensor:
    """Return quantiles of all elements that are not NaN by linear interpolation, 0 where there are none.

    torch.nanquantile refuses more than 16 million elements.
    """
    ordered = gather(values.reshape(-1), group).values.sort().values  # NaN last
    if not len(ordered):
        return ordered.new_zeros(len(shares))
    number = (~ordered.isnan()).sum()
    places = torch.tensor(shares, dtype=torch.float64, device=values.device) * (number - 1).clamp(min=0)
    below, above = places.floor().long(), places.ceil().long()
    found = torch.lerp(ordered[below], ordered[above], (places - below).to(ordered.dtype))
    return torch.where(number > 0, found, 0.0)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return (numerator / denominator.clamp(min=1)).float()
