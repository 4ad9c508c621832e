"""Selectors: from statistics to detached boolean masks over elements.

The statistics here are of a whole batch: ranks and means run over all dimensions at once.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg import _checks, _collectives


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
    return top_count(entropy, share_count(_kept(entropy, mask), fraction), mask)


def token_covariance(
    log_probs: Tensor, advantages: Tensor, mask: Tensor | None = None, *, group: dist.ProcessGroup | None = None
) -> Tensor:
    r"""Return each token's share of the covariance of log-probability and advantage, detached.

    $$c_i = (A_i - \bar A)(\log\pi_i - \overline{\log\pi})$$

    The means run over all kept tokens, so the mean of c is the biased sample covariance. To first order a
    policy-gradient step changes the policy's entropy by minus the learning rate times it.

    Args:
        log_probs: (...) floating, log pi of the chosen tokens.
        advantages: (...) floating, the same shape.
        mask: (...) boolean, True = keep; None keeps all.
        group: processes among which the tokens are divided; the means are those of all.

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
    return _centred(log_probs, mask, group) * _centred(advantages, mask, group)


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
    covariance: Tensor,
    fraction: float,
    mask: Tensor | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    validate: bool = False,
) -> Tensor:
    """Return True for the ``fraction`` of kept tokens with the highest covariance: the choice of KL-Cov.

    max(1, int(fraction * N)) tokens are chosen of the N kept ones, none if N = 0; ties go to the first.

    Args:
        covariance: (...) floating, from ``token_covariance``; NaN is never chosen.
        fraction: in (0, 1].
        mask: (...) boolean, True = keep; None keeps all.
        group: processes among which the tokens are divided; counts and ranks are those of all.
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
    return top_count(covariance, share_count(_kept(covariance, mask), fraction, group=group), mask, group=group)


def share_count(keep: Tensor, fraction: float | Tensor, *, group: dist.ProcessGroup | None = None) -> Tensor:
    """Return max(1, int(fraction * N)) for N kept elements, 0 for none.

    Args:
        keep: (...) boolean.
        fraction: in (0, 1]; a scalar tensor is held within [0, 1].
        group: processes among which the elements are divided.

    Returns:
        scalar, float64.

    Raises:
        TypeError: fraction is no number.
        ValueError: fraction outside (0, 1].

    Example:
        >>> share_count(torch.ones(10, dtype=torch.bool), 0.25)
        tensor(2., dtype=torch.float64)
    """
    share = (
        fraction.detach().clamp(0.0, 1.0)
        if isinstance(fraction, Tensor)
        else _checks.require_fraction("fraction", fraction)
    )
    number = _collectives.total(keep.sum().double(), group)
    return torch.where(number > 0, (share * number).floor().clamp(min=1), 0)


def top_count(
    values: Tensor, count: Tensor | int, mask: Tensor | None = None, *, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Return True for the ``count`` largest of the kept elements; ties go to the first.

    Args:
        values: (...) floating; NaN is never chosen.
        count: number of elements, scalar.
        mask: (...) boolean, True = keep; None keeps all.
        group: processes among which the elements are divided, ordered by rank.

    Returns:
        (...) boolean, detached.

    Raises:
        TypeError: values not floating or mask not boolean.
        ValueError: mask of another shape.

    Example:
        >>> top_count(torch.tensor([0.5, 2.0, 9.0]), 2)
        tensor([False,  True,  True])
    """
    _check_statistic("values", values, mask, validate=False)
    flat, own = _collectives.gather(torch.where(_kept(values, mask), values.detach(), torch.nan).reshape(-1), group)
    keep = ~flat.isnan()
    order = torch.where(keep, flat, -torch.inf).argsort(descending=True, stable=True)
    # Ranks count kept elements only, so that a kept -inf does not lose its place to a masked element.
    kept = keep[order]
    chosen = kept & (kept.cumsum(0) <= count)
    return torch.empty_like(keep).scatter_(0, order, chosen)[own].reshape(values.shape)


def _kept(values: Tensor, mask: Tensor | None) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool) if mask is None else mask


def _centred(values: Tensor, mask: Tensor | None, group: dist.ProcessGroup | None) -> Tensor:
    wide = values.detach().to(_checks.accumulation_dtype(values))
    keep = _kept(wide, mask)
    kept = torch.where(keep, wide, 0.0)
    # An empty mask divides by 1: nothing is left of it below.
    mean = _collectives.total(kept.sum(), group) / _collectives.total(keep.sum(), group).clamp(min=1)
    return torch.where(keep, wide - mean, 0.0)


def _check_statistic(name: str, values: Tensor, mask: Tensor | None, validate: bool) -> None:
    _checks.require_floating(name, values, min_dim=0)
    _checks.require_mask(mask, name, values)
    if validate:
        _checks.require_no_nan(name, values if mask is None else values.masked_fill(~mask, 0.0))
