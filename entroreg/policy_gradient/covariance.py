"""Clip-Cov and KL-Cov: entropy kept by care with the few tokens whose covariance would spend it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg import _checks, selectors
from entroreg._collectives import gather
from entroreg.policy_gradient.losses import ppo_tokens
from entroreg.policy_gradient.metrics import PolicyMetrics, measure, quantiles_of, token_covariance
from entroreg.policy_gradient.reductions import Reduction, token_mean
from entroreg.policy_gradient.tokens import check_tokens


class Quantiles(NamedTuple):
    """Thresholds of Clip-Cov as quantiles of the batch's covariances, in [0, 1].

    Example:
        >>> Quantiles(low=0.98, high=1.0)
        Quantiles(low=0.98, high=1.0)
    """

    low: float
    high: float


def clip_cov_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor | None = None,
    *,
    fraction: float | Tensor = 2e-4,
    band: tuple[float, float] | Quantiles = (1.0, 5.0),
    clip: tuple[float, float] = (1.0, 1.0),
    reduction: Reduction = token_mean,
    generator: torch.Generator | None = None,
    group: dist.ProcessGroup | None = None,
    entropy: Tensor | None = None,
    validate: bool = True,
) -> tuple[Tensor, PolicyMetrics]:
    r"""Return PPO's loss without the gradients of a few tokens of high covariance, minimised.

    $$\mathrm{mean}\; w \max\left[-A d,\; -A\, \mathrm{clip}(d, 1-\epsilon_l, 1+\epsilon_h)\right],
      \qquad w_i = 0 \text{ for chosen } i, \text{ else } 1$$

    Candidates are the kept tokens with low < c < high that PPO's clip does not hold already; of them min(number,
    max(1, int(fraction N))) are chosen uniformly at random. The chosen count in the mean's denominator. Without a
    candidate this is PPO's loss. The defaults are the authors'; verl has clip = (0.2, 0.2). The covariance is
    c = (A - mean A)(log pi - mean log pi), in nats times the unit of the advantages: where log-probabilities
    average -0.3 the band (1, 5) holds only improbable tokens of low advantage; ``Quantiles`` follow the batch.

    Args:
        log_probs: (B, T) floating, log pi of the chosen tokens.
        old_log_probs: (B, T) floating, those of the policy that chose them; detached here.
        advantages: (B, T), or (B,) or (B, 1): one for a sequence, which all of its tokens get. Detached here.
        mask: (B, T) boolean, True = keep; None keeps all.
        fraction: of the N kept tokens, in (0, 1]; a scalar tensor (from a controller) is held within [0, 1].
        band: exclusive thresholds of the covariance, low below high, or ``Quantiles``.
        clip: PPO's eps low in [0, 1] and eps high, at least 0.
        reduction: ``token_mean``, ``sequence_mean`` or ``ConstantLength(n)``.
        generator: of the random choice; None takes torch's global one. With a group: in the same state in every
            process, or None.
        group: processes among which the batch is divided: means, counts, thresholds and the choice are those of the
            whole batch, and the mean of the losses is the loss of the whole.
        entropy: (B, T) true entropies for the metrics, nats; None estimates them.
        validate: read the values and refuse NaN; costs a device sync.

    Returns:
        Scalar loss, 0 with gradient 0 where nothing is kept, and metrics.

    Raises:
        TypeError: a tensor not floating, mask not boolean, or a setting that is no number.
        ValueError: shapes that do not fit, thresholds out of order, fraction outside (0, 1], or NaN.

    Example:
        >>> log_probs = torch.tensor([[-0.1, -0.1, -0.1, -4.0]])
        >>> loss, metrics = clip_cov_loss(log_probs, log_probs, torch.tensor([[1.0, 1.0, 1.0, -1.0]]))
        >>> round(float(metrics.share_selected), 2), round(float(loss), 2)
        (0.25, -0.75)

    Reference:
        Cui et al. (2025), arXiv 2505.22617, section 4.2 (Clip-Cov).
    """
    tokens = check_tokens(log_probs, old_log_probs, advantages, mask, validate=validate)
    losses, clipped = ppo_tokens(tokens, clip)
    covariance = token_covariance(tokens, group)
    low, high = _thresholds(covariance, band, group)
    candidates = (covariance > low) & (covariance < high) & ~clipped
    chosen = _choose(candidates, selectors.share_count(tokens.mask, fraction, group=group), generator, group)
    # A where and not a weight of 0: a loss that overflowed times 0 would be NaN.
    loss = reduction(torch.where(chosen, 0.0, losses), tokens.mask, group)
    return loss, measure(tokens, entropy, covariance, chosen, clipped, torch.zeros_like(chosen), group)


def kl_cov_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor | None = None,
    *,
    fraction: float | Tensor = 2e-3,
    beta: float = 1.0,
    reduction: Reduction = token_mean,
    group: dist.ProcessGroup | None = None,
    entropy: Tensor | None = None,
    validate: bool = True,
) -> tuple[Tensor, PolicyMetrics]:
    r"""Return the policy-gradient loss with a penalty that holds the tokens of highest covariance, minimised.

    $$\mathrm{mean}\left[-A d + \beta\, \mathbb{1}_\text{chosen} |\log\pi - \log\pi_\text{old}|\right]$$

    Chosen are the max(1, int(fraction N)) of the N kept tokens with the highest c; PPO's clip is not used. The
    defaults are the authors' for 7B models (2e-4 for 32B); verl's are fraction = 2e-4, beta = 0.1. On the policy's
    own samples, before it moved, the penalty is 0: differences below the resolution of the dtype count as none, and
    ``share_inert`` says of how many chosen tokens that holds. With all of them inert KL-Cov does nothing.

    Args:
        log_probs: (B, T) floating, log pi of the chosen tokens.
        old_log_probs: (B, T) floating, those of the policy that chose them; detached here.
        advantages: (B, T), or (B,) or (B, 1): one for a sequence, which all of its tokens get. Detached here.
        mask: (B, T) boolean, True = keep; None keeps all.
        fraction: of the N kept tokens, in (0, 1]; a scalar tensor (from a controller) is held within [0, 1].
        beta: weight of the penalty, at least 0.
        reduction: ``token_mean``, ``sequence_mean`` or ``ConstantLength(n)``.
        group: processes among which the batch is divided: means, counts and ranks are those of the whole batch, and
            the mean of the losses is the loss of the whole.
        entropy: (B, T) true entropies for the metrics, nats; None estimates them.
        validate: read the values and refuse NaN; costs a device sync.

    Returns:
        Scalar loss, 0 with gradient 0 where nothing is kept, and metrics.

    Raises:
        TypeError: a tensor not floating, mask not boolean, or a setting that is no number.
        ValueError: shapes that do not fit, fraction outside (0, 1], beta below 0, or NaN.

    Example:
        >>> new, old = torch.tensor([[-0.1, -0.1, -6.0]]), torch.tensor([[-0.1, -0.1, -5.0]])
        >>> loss, metrics = kl_cov_loss(new, old, torch.tensor([[0.0, 0.0, -1.0]]))
        >>> round(float(loss), 4)  # (exp(-1) + |-6 + 5|) / 3
        0.456

    Reference:
        Cui et al. (2025), arXiv 2505.22617, section 4.3 (KL-Cov).
    """
    _checks.require_number("beta", beta, low=0.0)
    tokens = check_tokens(log_probs, old_log_probs, advantages, mask, validate=validate)
    covariance = token_covariance(tokens, group)
    possible = covariance.isfinite()
    count = selectors.share_count(tokens.mask, fraction, group=group)
    chosen = selectors.top_count(covariance, count, possible, group=group)
    resolution = torch.finfo(log_probs.dtype).eps * tokens.log_probs.detach().abs().clamp(min=1.0)
    moved = tokens.log_ratio.detach().abs() > resolution
    penalty = torch.where(chosen & moved, tokens.log_ratio.abs(), 0.0)
    losses = -tokens.advantages * tokens.log_ratio.exp() + beta * penalty
    none = torch.zeros_like(chosen)
    metrics = measure(tokens, entropy, covariance, chosen, none, chosen & ~moved, group)
    return reduction(losses, tokens.mask, group), metrics


def check_band(band: tuple[float, float] | Quantiles) -> tuple[float, float]:
    """Return the thresholds of Clip-Cov, checked."""
    low, high = (_checks.require_number(name, value) for name, value in zip(("low", "high"), band, strict=True))
    if not low < high:
        raise ValueError(f"band must have low below high, got {low} and {high}")
    if isinstance(band, Quantiles) and (low < 0.0 or high > 1.0):
        raise ValueError(f"quantiles must be in [0, 1], got {low} and {high}")
    return low, high


def _thresholds(
    covariance: Tensor, band: tuple[float, float] | Quantiles, group: dist.ProcessGroup | None
) -> tuple[float | Tensor, float | Tensor]:
    low, high = check_band(band)
    if not isinstance(band, Quantiles):
        return low, high
    found = quantiles_of(covariance, (low, high), group)
    # The ends are no thresholds: with 1 the largest is a candidate, and with 0 the smallest.
    return (found[0] if low > 0.0 else -torch.inf), (found[1] if high < 1.0 else torch.inf)


def _choose(
    candidates: Tensor, count: Tensor, generator: torch.Generator | None, group: dist.ProcessGroup | None
) -> Tensor:
    """Return ``count`` of the candidates, or all of them if there are fewer, uniformly at random."""
    flat = candidates.reshape(-1)
    if generator is None:
        keys = torch.rand(flat.shape, device=flat.device)
    else:
        everywhere, own = gather(flat.to(torch.uint8), group)
        device = generator.device
        keys = torch.rand(everywhere.shape, generator=generator, device=device)[own].to(flat.device)
    return selectors.top_count(keys.reshape(candidates.shape), count, candidates, group=group)
