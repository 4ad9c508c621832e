"""The plain policy-gradient losses. Shapes: B batch, T tokens."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg import _checks
from entroreg.policy_gradient.metrics import PolicyMetrics, measure, token_covariance
from entroreg.policy_gradient.reductions import Reduction, token_mean
from entroreg.policy_gradient.tokens import Tokens, check_tokens


def reinforce_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor | None = None,
    *,
    reduction: Reduction = token_mean,
    group: dist.ProcessGroup | None = None,
    entropy: Tensor | None = None,
    validate: bool = True,
) -> tuple[Tensor, PolicyMetrics]:
    r"""Return the importance-weighted policy-gradient loss, minimised: REINFORCE while the policy has not moved.

    $$-\mathrm{mean}\,(d\, A), \qquad d = \pi(a|s) / \pi_\text{old}(a|s)$$

    Differs from the paper: log d is held within +-20, beyond which the gradient is 0.

    Args:
        log_probs: (B, T) floating, log pi of the chosen tokens.
        old_log_probs: (B, T) floating, those of the policy that chose them; detached here.
        advantages: (B, T), or (B,) or (B, 1): one for a sequence, which all of its tokens get. Detached here.
        mask: (B, T) boolean, True = keep; None keeps all.
        reduction: ``token_mean``, ``sequence_mean`` or ``ConstantLength(n)``.
        group: processes among which the batch is divided: the mean of their losses is the loss of the whole.
        entropy: (B, T) true entropies for the metrics, nats; None estimates them.
        validate: read the values and refuse NaN; costs a device sync.

    Returns:
        Scalar loss, 0 with gradient 0 where nothing is kept, and metrics.

    Raises:
        TypeError: a tensor not floating, or mask not boolean.
        ValueError: shapes that do not fit, or NaN found by ``validate``.

    Example:
        >>> log_probs = torch.tensor([[-1.0, -2.0]])
        >>> reinforce_loss(log_probs, log_probs, torch.tensor([[1.0, 0.5]]))[0]
        tensor(-0.7500)

    Reference:
        Williams (1992), "Simple statistical gradient-following algorithms", eq. 5.
    """
    tokens = check_tokens(log_probs, old_log_probs, advantages, mask, validate=validate)
    none = torch.zeros_like(tokens.mask)
    loss = reduction(-tokens.log_ratio.exp() * tokens.advantages, tokens.mask, group)
    return loss, measure(tokens, entropy, token_covariance(tokens, group), none, none, none, group)


def ppo_clip_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor | None = None,
    *,
    clip: tuple[float, float] = (0.2, 0.2),
    reduction: Reduction = token_mean,
    group: dist.ProcessGroup | None = None,
    entropy: Tensor | None = None,
    validate: bool = True,
) -> tuple[Tensor, PolicyMetrics]:
    r"""Return PPO's clipped loss, minimised.

    $$\mathrm{mean} \max\left[-A d,\; -A\, \mathrm{clip}(d, 1-\epsilon_\text{low}, 1+\epsilon_\text{high})\right]$$

    Differs from the paper: log d is held within +-20, beyond which the gradient is 0.

    Args:
        log_probs: (B, T) floating, log pi of the chosen tokens.
        old_log_probs: (B, T) floating, those of the policy that chose them; detached here.
        advantages: (B, T), or (B,) or (B, 1): one for a sequence, which all of its tokens get. Detached here.
        mask: (B, T) boolean, True = keep; None keeps all.
        clip: eps low in [0, 1] and eps high, at least 0; (0.2, 0.28) is DAPO's clip-higher.
        reduction: ``token_mean``, ``sequence_mean`` or ``ConstantLength(n)``.
        group: processes among which the batch is divided: the mean of their losses is the loss of the whole.
        entropy: (B, T) true entropies for the metrics, nats; None estimates them.
        validate: read the values and refuse NaN; costs a device sync.

    Returns:
        Scalar loss, 0 with gradient 0 where nothing is kept, and metrics.

    Raises:
        TypeError: a tensor not floating, or mask not boolean.
        ValueError: shapes that do not fit, a clip out of range, or NaN found by ``validate``.

    Example:
        >>> new, old = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]])
        >>> ppo_clip_loss(new, old, torch.tensor([[1.0, 1.0]]))[0]
        tensor(-1.1000)

    Reference:
        Schulman et al. (2017), PPO, arXiv 1707.06347, eq. 7.
    """
    tokens = check_tokens(log_probs, old_log_probs, advantages, mask, validate=validate)
    losses, clipped = ppo_tokens(tokens, clip)
    none = torch.zeros_like(tokens.mask)
    covariance = token_covariance(tokens, group)
    return reduction(losses, tokens.mask, group), measure(tokens, entropy, covariance, none, clipped, none, group)


def ppo_tokens(tokens: Tokens, clip: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return PPO's loss of each token (B, T) and where its clip holds (B, T)."""
    low, high = check_clip(clip)
    ratio = tokens.log_ratio.exp()
    free = -tokens.advantages * ratio
    held = -tokens.advantages * ratio.clamp(1.0 - low, 1.0 + high)
    return torch.maximum(free, held), (held > free).detach()


def check_clip(clip: tuple[float, float]) -> tuple[float, float]:
    """Return eps low and high of PPO's clip, checked."""
    low = _checks.require_number("clip low", clip[0], low=0.0, high=1.0)
    return low, _checks.require_number("clip high", clip[1], low=0.0)
