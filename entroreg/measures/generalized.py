"""Tsallis and Renyi entropies: one-parameter families that contain Shannon's at order 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.measures._softmax import MaskedLogProbs, check_logits, masked_log_softmax
from entroreg.measures.categorical import categorical_entropy

# Within this distance of order 1 a difference of powers cancels, so log1p of the excess is the exact form.
_NEAR_ONE = 0.1


def tsallis_entropy(
    logits: Tensor,
    order: float,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    *,
    validate: bool = False,
) -> Tensor:
    r"""Return the Tsallis entropy of softmax(logits / temperature), non-negated.

    $$S_q(p) = \frac{1 - \sum_n p_n^q}{q - 1}, \qquad S_1 = H$$

    Args:
        logits: (..., N) floating, unnormalised; -inf allowed.
        order: q, above 0; 1 gives Shannon's entropy, 2 the Gini impurity.
        mask: (..., N) boolean, True = keep; None keeps all.
        temperature: logit divisor tau, above 0.
        validate: read the values and refuse NaN and +inf; costs a device sync.

    Returns:
        (...) in the dtype of ``logits``, between 0 and (1 - N^(1-q)) / (q - 1).

    Raises:
        TypeError: logits not a floating tensor, mask not boolean, or order not a number.
        ValueError: order or temperature not above 0, mask of another shape, or NaN found by ``validate``.

    Example:
        >>> tsallis_entropy(torch.zeros(4), order=2.0)
        tensor(0.7500)

    Reference:
        Tsallis (1988), "Possible generalization of Boltzmann-Gibbs statistics", eq. 1.
    """
    order = _checks.require_positive("order", order)
    if order == 1.0:
        return categorical_entropy(logits, mask, temperature, validate=validate)
    check_logits(logits, mask, temperature, validate)
    distribution = masked_log_softmax(logits, mask, temperature)
    entropy = _power_excess(distribution, order) / (1.0 - order)
    return _finish(distribution, entropy).to(logits.dtype)


def renyi_entropy(
    logits: Tensor,
    order: float,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    *,
    validate: bool = False,
) -> Tensor:
    r"""Return the Renyi entropy of softmax(logits / temperature), in nats, non-negated.

    $$H_\alpha(p) = \frac{1}{1 - \alpha} \log \sum_n p_n^\alpha, \qquad H_1 = H, \quad H_\infty = -\log \max_n p_n$$

    Args:
        logits: (..., N) floating, unnormalised; -inf allowed.
        order: alpha, above 0; 1 gives Shannon's entropy, ``math.inf`` the min-entropy.
        mask: (..., N) boolean, True = keep; None keeps all.
        temperature: logit divisor tau, above 0.
        validate: read the values and refuse NaN and +inf; costs a device sync.

    Returns:
        (...) in the dtype of ``logits``, between 0 and log N.

    Raises:
        TypeError: logits not a floating tensor, mask not boolean, or order not a number.
        ValueError: order or temperature not above 0, mask of another shape, or NaN found by ``validate``.

    Example:
        >>> renyi_entropy(torch.zeros(4), order=2.0)
        tensor(1.3863)

    Reference:
        Renyi (1961), "On measures of entropy and information".
    """
    if order != math.inf:
        order = _checks.require_positive("order", order)
    if order == 1.0:
        return categorical_entropy(logits, mask, temperature, validate=validate)
    check_logits(logits, mask, temperature, validate)
    distribution = masked_log_softmax(logits, mask, temperature)
    log_probs = torch.where(distribution.support, distribution.log_probs, -torch.inf)
    # A row without support would be NaN in logsumexp and its gradient: it gets zeros and is set to 0 below.
    log_probs = torch.where(distribution.empty.unsqueeze(-1), 0.0, log_probs)
    if log_probs.shape[-1] == 0:
        entropy = log_probs.sum(dim=-1)
    elif order == math.inf:
        entropy = -log_probs.amax(dim=-1)
    elif abs(order - 1.0) < _NEAR_ONE:
        entropy = torch.log1p(_power_excess(distribution, order)) / (1.0 - order)
    else:
        entropy = torch.logsumexp(order * log_probs, dim=-1) / (1.0 - order)
    return _finish(distribution, entropy).to(logits.dtype)


def _finish(distribution: MaskedLogProbs, entropy: Tensor) -> Tensor:
    """Return 0 for rows without support, and never -0."""
    return torch.where(distribution.empty, 0.0, entropy + 0.0)


def _power_excess(distribution: MaskedLogProbs, order: float) -> Tensor:
    """Return sum_n (p_n^order - p_n), without cancellation near order 1."""
    log_probs, probs, support, _ = distribution
    exponent = (order - 1.0) * log_probs
    small = exponent.abs() < 1.0
    # Double where: for order < 1 and tiny p the expm1 branch is 0 * inf, so it sees 0 where it is not used.
    by_expm1 = probs * torch.expm1(torch.where(small, exponent, 0.0))
    by_powers = torch.exp(order * log_probs) - probs
    return torch.where(support, torch.where(small, by_expm1, by_powers), 0.0).sum(dim=-1)
