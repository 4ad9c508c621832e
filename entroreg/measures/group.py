"""Entropy over groups of elements: semantic entropy and cluster entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.measures._softmax import check_logits, entropy_of_weights, masked_log_softmax
from entroreg.measures.categorical import categorical_entropy


def group_entropy(
    scores: Tensor,
    groups: Tensor,
    mask: Tensor | None = None,
    agg: str = "sum",
    *,
    num_groups: int | None = None,
    validate: bool = False,
) -> Tensor:
    r"""Return the entropy over groups of elements, in nats, non-negated.

    $$\text{sum: } p_c = \sum_{n \in c} \mathrm{softmax}(s)_n \qquad
      \text{mean: } p_c \propto \exp\Big(\tfrac{1}{|c|} \sum_{n \in c} s_n\Big) \qquad
      \text{count: } p_c = |c| / N$$

    The three differ: with uniform scores and sizes 80/5/5/5/5, sum gives 0.778 and mean log 5. Only ``sum`` is
    bounded by the entropy of the elements; ``mean`` ignores group sizes; ``count`` ignores scores and so has no
    gradient. An element that is masked or scores -inf counts as deleted; an empty group has probability 0.

    Args:
        scores: (..., N) floating, unnormalised; -inf allowed.
        groups: (..., N) integer in [0, num_groups), or (..., N, K) floating soft memberships that sum to 1.
            Detached: the grouping is the caller's and is not trained.
        mask: (..., N) boolean, True = keep; None keeps all.
        agg: "sum" (semantic entropy), "mean" (Centaur's cluster entropy) or "count" (discrete semantic entropy).
        num_groups: K, needed for integer groups.
        validate: read the values and refuse NaN scores, indices out of range and memberships that do not sum to 1.

    Returns:
        (...) in the dtype of ``scores``, between 0 and log K.

    Raises:
        TypeError: scores not a floating tensor, groups neither integer nor floating, or mask not boolean.
        ValueError: shapes or devices that do not fit, another agg, num_groups missing or below 1, or values found
            by ``validate``.

    Example:
        >>> group_entropy(torch.zeros(4), torch.tensor([0, 0, 0, 1]), agg="mean", num_groups=2)
        tensor(0.6931)

    Reference:
        Farquhar et al. (2024), "Detecting hallucinations ... using semantic entropy" (sum, count);
        Centaur (2025), arXiv 2503.11650 (mean).
    """
    check_logits(scores, mask, 1.0, validate, name="scores")
    _checks.require_choice("agg", agg, _AGGREGATIONS)
    kept = scores != -torch.inf if mask is None else mask & (scores != -torch.inf)
    membership = _membership(scores, groups, num_groups, kept if validate else None)
    membership = torch.where(kept.unsqueeze(-1), membership, 0.0)
    return _AGGREGATIONS[agg](scores, membership, mask).to(scores.dtype)


def _sum(scores: Tensor, membership: Tensor, mask: Tensor | None) -> Tensor:
    probs = masked_log_softmax(scores, mask, 1.0).probs
    return entropy_of_weights((probs.unsqueeze(-1) * membership).sum(dim=-2))


def _mean(scores: Tensor, membership: Tensor, mask: Tensor | None) -> Tensor:
    size = membership.sum(dim=-2)
    present = size > 0
    wide = scores.to(membership.dtype).unsqueeze(-1)
    total = torch.where(membership > 0, wide * membership, 0.0).sum(dim=-2)
    return categorical_entropy(total / torch.where(present, size, 1.0), mask=present)


def _count(scores: Tensor, membership: Tensor, mask: Tensor | None) -> Tensor:
    size = membership.sum(dim=-2)
    total = size.sum(dim=-1, keepdim=True)
    return entropy_of_weights(size / torch.where(total > 0, total, 1.0))


_AGGREGATIONS = {"count": _count, "mean": _mean, "sum": _sum}


def _membership(scores: Tensor, groups: Tensor, num_groups: int | None, validated: Tensor | None) -> Tensor:
    """Return (..., N, K) detached memberships in the accumulation dtype; read the values where ``validated``."""
    if not isinstance(groups, Tensor):
        raise TypeError(f"groups must be a torch.Tensor, got {type(groups).__name__}")
    dtype = _checks.accumulation_dtype(scores)
    if groups.is_floating_point():
        if groups.shape[:-1] != scores.shape:
            raise ValueError(
                f"soft groups must have shape (*scores.shape, K) = (*{tuple(scores.shape)}, K), "
                f"got {tuple(groups.shape)}"
            )
        if groups.device != scores.device:
            raise ValueError(f"groups must be on the device of scores, {scores.device}, got {groups.device}")
        if validated is not None:
            _require_memberships(groups, validated)
        return groups.detach().to(dtype)
    if groups.dtype == torch.bool or groups.is_complex():
        raise TypeError(f"groups must be integer indices or floating memberships, got {groups.dtype}")
    _checks.require_same_shape("groups", groups, "scores", scores)
    if num_groups is None:
        raise ValueError("num_groups must be given with integer groups: num_groups=int(groups.max()) + 1")
    _checks.require_number("num_groups", num_groups, low=1)
    if validated is not None and bool((((groups < 0) | (groups >= num_groups)) & validated).any()):
        raise ValueError(f"groups must be in [0, {num_groups}), got {int(groups.min())} to {int(groups.max())}")
    indices = torch.arange(num_groups, device=groups.device)
    return (groups.detach().unsqueeze(-1) == indices).to(dtype)


def _require_memberships(groups: Tensor, kept: Tensor) -> None:
    error = (groups.detach().to(_checks.accumulation_dtype(groups)).sum(-1) - 1.0).abs()
    # Half precision cannot write a sum of 1 more exactly than its own resolution.
    if not bool((error <= max(1e-4, torch.finfo(groups.dtype).eps)).logical_or(~kept).all()):
        raise ValueError("soft groups must sum to 1 over their last dim: normalise the memberships")
