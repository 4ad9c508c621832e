"""Shannon entropy of categorical distributions given by logits."""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg.measures._softmax import check_logits, masked_log_softmax


def categorical_entropy(
    logits: Tensor,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    *,
    validate: bool = False,
) -> Tensor:
    r"""Return the Shannon entropy of softmax(logits / temperature), in nats, non-negated.

    $$H(p) = -\sum_n p_n \log p_n, \qquad p = \mathrm{softmax}(z / \tau)$$

    A masked element counts as deleted and so does a logit of -inf; a row without any element has entropy 0
    and gradient 0. Half-precision input is accumulated in float32 and cast back.

    Args:
        logits: (..., N) floating, unnormalised; -inf allowed.
        mask: (..., N) boolean, True = keep; None keeps all.
        temperature: logit divisor tau, above 0.
        validate: read the values and refuse NaN and +inf; costs a device sync.

    Returns:
        (...) in the dtype of ``logits``, between 0 and log N, up to rounding.

    Raises:
        TypeError: logits not a floating tensor, or mask not a boolean one.
        ValueError: mask of another shape or device, temperature not above 0, or NaN found by ``validate``.

    Example:
        >>> categorical_entropy(torch.zeros(4))
        tensor(1.3863)
        >>> categorical_entropy(torch.tensor([0.0, 0.0, 5.0]), mask=torch.tensor([True, True, False]))
        tensor(0.6931)

    Reference:
        Shannon (1948), "A Mathematical Theory of Communication", section 6.
    """
    check_logits(logits, mask, temperature, validate)
    return _shannon(logits, mask, temperature)[0].to(logits.dtype)


def normalized_entropy(
    logits: Tensor,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    *,
    validate: bool = False,
) -> Tensor:
    r"""Return entropy over its largest possible value, H / log N, non-negated, between 0 and 1.

    $$H(p) / \log N$$

    N is the number of elements of the row that are kept and whose logit is above -inf, so the measure compares
    attention rows of different lengths. A row with N <= 1 has 0.

    Args:
        logits: (..., N) floating, unnormalised; -inf allowed.
        mask: (..., N) boolean, True = keep; None keeps all.
        temperature: logit divisor tau, above 0.
        validate: read the values and refuse NaN and +inf; costs a device sync.

    Returns:
        (...) in the dtype of ``logits``, between 0 and 1, up to rounding.

    Raises:
        TypeError: logits not a floating tensor, or mask not a boolean one.
        ValueError: mask of another shape or device, temperature not above 0, or NaN found by ``validate``.

    Example:
        >>> normalized_entropy(torch.tensor([[0.0, 0.0, 2.0], [0.0, 2.0, -torch.inf]]))
        tensor([0.6058, 0.5271])

    Reference:
        Pielou (1966), "The measurement of diversity in different types of biological collections" (evenness).
    """
    check_logits(logits, mask, temperature, validate)
    entropy, support = _shannon(logits, mask, temperature)
    count = support.sum(dim=-1)
    # log 1 = 0: rows with fewer than two elements divide by log 2 instead, and their entropy is 0 anyway.
    log_count = count.clamp(min=2).to(entropy.dtype).log()
    return (entropy / log_count).to(logits.dtype)


def _shannon(logits: Tensor, mask: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """Return (entropy, support) in the accumulation dtype."""
    log_probs, probs, support, empty = masked_log_softmax(logits, mask, temperature)
    entropy = 0.0 - (probs * log_probs).sum(dim=-1)  # not a bare minus: a certain row has 0, never -0
    return torch.where(empty, 0.0, entropy), support
