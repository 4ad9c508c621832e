"""What all losses of tokens check and compute first. Shapes: B batch, T tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from entroreg import _checks

LOG_RATIO_LIMIT = 20.0  # e^20 is out of any trust region: beyond it exp would overflow and its gradient be NaN


class Tokens(NamedTuple):
    """The tokens of a batch, (B, T) each, in float32 or wider.

    Attributes:
        log_probs: log pi of the chosen tokens; 0 where masked.
        log_ratio: log pi - log pi_old, within +-20; 0 where masked.
        advantages: detached; 0 where masked.
        mask: True = keep.
    """

    log_probs: Tensor
    log_ratio: Tensor
    advantages: Tensor
    mask: Tensor


def check_tokens(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor | None, *, validate: bool
) -> Tokens:
    """Check the four tensors of a loss and bring them to one form.

    Args:
        log_probs: (B, T) floating.
        old_log_probs: (B, T) floating, detached here.
        advantages: (B, T), or (B,) or (B, 1): one for a sequence, which all of its tokens get.
        mask: (B, T) boolean, True = keep; None keeps all.
        validate: read the values and refuse NaN among the kept.

    Returns:
        The tokens.

    Raises:
        TypeError: a tensor not floating, mask not boolean.
        ValueError: shapes that do not fit, or NaN.
    """
    _checks.require_floating("log_probs", log_probs, min_dim=2)
    _checks.require_floating("old_log_probs", old_log_probs)
    _checks.require_same_shape("old_log_probs", old_log_probs, "log_probs", log_probs)
    _checks.require_mask(mask, "log_probs", log_probs)
    keep = torch.ones_like(log_probs, dtype=torch.bool) if mask is None else mask
    per_token = _per_token(advantages, log_probs)
    if validate:
        named = {"log_probs": log_probs, "old_log_probs": old_log_probs, "advantages": per_token}
        for name, values in named.items():
            _require_no_nan(name, values, keep)
    dtype = _checks.accumulation_dtype(log_probs)
    # A double where: what stands at masked places may be NaN, and so would be its gradient times 0.
    now = torch.where(keep, log_probs, 0.0).to(dtype)
    old = torch.where(keep, old_log_probs.detach(), 0.0).to(dtype)
    # -inf - -inf: impossible then and now, so nothing has changed.
    ratio = (now - old).nan_to_num(nan=0.0, posinf=LOG_RATIO_LIMIT, neginf=-LOG_RATIO_LIMIT)
    return Tokens(
        now,
        ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT),
        torch.where(keep, per_token.detach(), 0.0).to(dtype),
        keep,
    )


def _per_token(advantages: Tensor, log_probs: Tensor) -> Tensor:
    _checks.require_floating("advantages", advantages)
    batch = log_probs.shape[0]
    if advantages.shape in ((batch,), (batch, 1)):
        advantages = advantages.reshape(batch, 1).expand_as(log_probs)
    elif advantages.shape != log_probs.shape:
        raise ValueError(
            f"advantages must have the shape of log_probs, {tuple(log_probs.shape)}, or one value for a sequence, "
            f"({batch},) or ({batch}, 1), got {tuple(advantages.shape)}"
        )
    _checks.require_same_shape("advantages", advantages, "log_probs", log_probs)
    return advantages


def _require_no_nan(name: str, values: Tensor, keep: Tensor) -> None:
    bad = values.detach().isnan() & keep
    if bool(bad.any()):
        index = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(
            f"{name} is NaN in {int(bad.sum())} of {int(keep.sum())} kept tokens, first at {index}: look upstream, "
            f"or leave them out on purpose with mask & ~{name}.isnan()"
        )
