"""Masked log-probabilities that stay exact for -inf logits, one-hot rows and rows without an element."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from entroreg import _checks


class MaskedLogProbs(NamedTuple):
    """Log-probabilities with the places where they are zero by definition.

    Attributes:
        log_probs: (..., N) in the accumulation dtype; 0 where ``support`` is False.
        probs: (..., N), exactly 0 where ``support`` is False.
        support: (..., N) boolean, True where the mask keeps the element and its logit is above -inf.
        empty: (...) boolean, True for rows without any support.
    """

    log_probs: Tensor
    probs: Tensor
    support: Tensor
    empty: Tensor


def masked_log_softmax(logits: Tensor, mask: Tensor | None, temperature: float) -> MaskedLogProbs:
    """Return log softmax(logits / temperature) over the kept elements of the last dim."""
    scaled = logits.to(_checks.accumulation_dtype(logits)) / temperature
    support = scaled != -torch.inf
    if mask is not None:
        support = support & mask
    empty = ~support.any(dim=-1)
    # A row of -inf alone would be NaN in log_softmax: such a row gets zeros, and its result is set to 0 below.
    filled = torch.where(support, scaled, torch.where(empty, 0.0, -torch.inf).unsqueeze(-1))
    raw = torch.log_softmax(filled, dim=-1)
    support = support & (raw != -torch.inf)  # finite logits further apart than the dtype reaches
    # Second where: 0 * -inf is NaN in the value and in the gradient, so log p is 0 wherever p is 0.
    log_probs = torch.where(support, raw, 0.0)
    probs = torch.where(support, raw.exp(), 0.0)
    return MaskedLogProbs(log_probs, probs, support, empty)


def check_logits(
    logits: Tensor, mask: Tensor | None, temperature: float, validate: bool, name: str = "logits"
) -> None:
    """Check the arguments that every categorical measure shares."""
    _checks.require_floating(name, logits)
    _checks.require_mask(mask, name, logits)
    _checks.require_positive("temperature", temperature)
    if validate:
        _checks.require_no_nan(name, logits if mask is None else logits.masked_fill(~mask, 0.0))


def entropy_of_weights(weights: Tensor) -> Tensor:
    """Return -sum w log w over the last dim, with 0 log 0 = 0 in value and gradient."""
    positive = weights > 0
    return 0.0 - (weights * torch.where(positive, weights, 1.0).log()).sum(dim=-1)  # never -0
