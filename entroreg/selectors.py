"""Selectors: from statistics to detached boolean masks over elements.

The statistics here are of a whole batch: ranks and means run over all dimensions at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg import _checks


def low_entropy(entropy: Tensor, threshold: float, mask: Tensor | None = None) -> Tensor:
    """Return True where entropy is below a threshold.

    Args:
        entropy: (...) floating, nats.
        threshold: nats; EATA uses 0.4 log K.
        mask: (...) boolean, True = keep; None keeps all.

    Returns:
        (...) boolean, detached; False where masked or NaN.

    Raises:
        TypeError: entropy not floating, mask not boolean, or threshold not a number.
        ValueError: mask of another shape.

    Example:
        >>> low_entropy(torch.tensor([0.1, 0.9]), threshold=0.5)
        tensor([ True, False])

    Reference:
        Niu et al. (2022), EATA, arXiv 2204.02610 (reliable samples).
    """
    _check_statistic("entropy", entropy, mask, validate=False)
    below = entropy.detach() < _checks.require_number("threshold", threshold)
    return below if mask is None else below & mask


def top_quantile_entropy(
    entropy: Tensor, fraction: float, mask: Tensor | None = None, *, validate: bool = False
) -> Tensor:
    """Return True for the ``fraction`` of kept elements with the highest entropy.

    max(1, int(fraction * N)) elements are chosen of the N kept ones, none if N = 0; ties go to the first.

    Args:
        entropy: (...) floating, nats; NaN is never chosen.
        fraction: in (0, 1].
        mask: (...) boolean, True = keep; None keeps all.
        validate: read the values and refuse NaN; costs a device sync.

    Returns:
        (...) boolean, detached.

    Raises:
        TypeError: entropy not floating, mask not boolean, or fraction not a number.
        ValueError: fraction outside (0, 1], mask of another shape, or NaN found by ``validate``.

    Example:
        >>> top_quantile_entropy(torch.tensor([0.1, 0.9, 0.5, 0.2]), fraction=0.5)
        tensor([False,  True,  True, False])

    Reference:
        Wang et al. (2025), "Beyond the 80/20 rule", arXiv 2506.01939.
    """
    _check_statistic("entropy", entropy, mask, validate)
    return _top(entropy, _require_fraction(fraction), mask)


def token_covariance(log_probs: Tensor, advantages: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Return each token's share of the covariance of log-probability and advantage, detached.

    $$c_i = (A_i - \bar A)(\log\pi_i - \overline{\log\pi})$$

    The means run over all kept tokens, so the mean of c is the biased sample covariance. To first order a
    policy-gradient step changes the policy's entropy by minus the learning rate times it.

    Args:
        log_probs: (...) floating, log pi of the chosen tokens.
        advantages: (...) floating, the same shape.
        mask: (...) boolean, True = keep; None keeps all.

    Returns:
        (...) at least float32; 0 where masked.

    Raises:
        TypeError: a tensor not floating or mask not boolean.
        ValueError: shapes that differ.

    Example:
        >>> token_covariance(torch.tensor([-1.0, -3.0]), torch.tensor([1.0, -1.0]))
        tensor([1., 1.])

    Reference:
        Cui et al. (2025), arXiv 2505.22617 (token covariance).
    """
    _check_statistic("log_probs", log_probs, mask, validate=False)
    _checks.require_floating("advantages", advantages, min_dim=0)
    _checks.require_same_shape("advantages", advantages, "log_probs", log_probs)
    return _centred(log_probs, mask) * _centred(advantages, mask)


def covariance_band(covariance: Tensor, low: float, high: float, mask: Tensor | None = None) -> Tensor:
    """Return True where low < covariance < high: the candidates of Clip-Cov.

    Args:
        covariance: (...) floating, from ``token_covariance``.
        low: lower threshold, exclusive.
        high: upper threshold, exclusive; above ``low``.
        mask: (...) boolean, True = keep; None keeps all.

    Returns:
        (...) boolean, detached; False where masked or NaN.

    Raises:
        TypeError: covariance not floating, mask not boolean, or a threshold not a number.
        ValueError: thresholds out of order or mask of another shape.

    Example:
        >>> covariance_band(torch.tensor([0.5, 2.0, 9.0]), low=1.0, high=5.0)
        tensor([False,  True, False])

    Reference:
        Cui et al. (2025), arXiv 2505.22617 (Clip-Cov).
    """
    _check_statistic("covariance", covariance, mask, validate=False)
    if not _checks.require_number("low", low) < _checks.require_number("high", high):
        raise ValueError(f"low must be below high, got {low} and {high}")
    inside = (covariance.detach() > low) & (covariance.detach() < high)
    return inside if mask is None else inside & mask


def covariance_topk(
    covariance: Tensor, fraction: float, mask: Tensor | None = None, *, validate: bool = False
) -> Tensor:
    """Return True for the ``fraction`` of kept tokens with the highest covariance: the choice of KL-Cov.

    max(1, int(fraction * N)) tokens are chosen of the N kept ones, none if N = 0; ties go to the first.

    Args:
        covariance: (...) floating, from ``token_covariance``; NaN is never chosen.
        fraction: in (0, 1].
        mask: (...) boolean, True = keep; None keeps all.
        validate: read the values and refuse NaN; costs a device sync.

    Returns:
        (...) boolean, detached.

    Raises:
        TypeError: covariance not floating, mask not boolean, or fraction not a number.
        ValueError: fraction outside (0, 1], mask of another shape, or NaN found by ``validate``.

    Example:
        >>> covariance_topk(torch.tensor([0.5, 2.0, 9.0]), fraction=0.01)
        tensor([False, False,  True])

    Reference:
        Cui et al. (2025), arXiv 2505.22617 (KL-Cov).
    """
    _check_statistic("covariance", covariance, mask, validate)
    return _top(covariance, _require_fraction(fraction), mask)


def _top(values: Tensor, fraction: float, mask: Tensor | None) -> Tensor:
    flat = values.detach().reshape(-1)
    keep = ~flat.isnan() if mask is None else mask.reshape(-1) & ~flat.isnan()
    total = flat.new_tensor(flat.numel(), dtype=torch.float64) if mask is None else mask.sum().double()
    count = torch.where(total > 0, (fraction * total).floor().clamp(min=1), 0)
    order = torch.where(keep, flat, -torch.inf).argsort(descending=True, stable=True)
    # Ranks count kept elements only, so that a kept -inf does not lose its place to a masked element.
    kept = keep[order]
    chosen = kept & (kept.cumsum(0) <= count)
    return torch.empty_like(keep).scatter_(0, order, chosen).reshape(values.shape)


def _centred(values: Tensor, mask: Tensor | None) -> Tensor:
    wide = values.detach().to(_checks.accumulation_dtype(values))
    if mask is None:
        return wide - wide.mean()
    kept = torch.where(mask, wide, 0.0)
    mean = kept.sum() / mask.sum().clamp(min=1)  # an empty mask divides by 1: nothing is left of it below
    return torch.where(mask, wide - mean, 0.0)


def _check_statistic(name: str, values: Tensor, mask: Tensor | None, validate: bool) -> None:
    _checks.require_floating(name, values, min_dim=0)
    _checks.require_mask(mask, name, values)
    if validate:
        _checks.require_no_nan(name, values if mask is None else values.masked_fill(~mask, 0.0))


def _require_fraction(fraction: float) -> float:
    if not 0.0 < _checks.require_number("fraction", fraction) <= 1.0:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    return fraction
