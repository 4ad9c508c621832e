"""Sums and softmaxes over the segments of a packed dimension: rows of different lengths, without padding.

A packed dimension of length M holds B segments one after the other; segment b is ``offsets[b]`` to
``offsets[b + 1]``, and may be empty. Letters: M elements, B segments, D features, K rows of weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from entroreg import _checks

__all__ = [
    "SegmentSoftmax",
    "segment_argmax",
    "segment_ids",
    "segment_softmax",
    "segment_sum",
    "segment_weighted_sum",
]

_LONG = 128  # mean length from which one matrix-vector product for each segment beats one pass over all: measured


class SegmentSoftmax(NamedTuple):
    """The softmax within each segment.

    Attributes:
        log_probs: (..., M) in the accumulation dtype; 0 where the probability is 0.
        probs: (..., M), exactly 0 where a logit is -inf.
    """

    log_probs: Tensor
    probs: Tensor


def segment_ids(offsets: Tensor, total: int) -> Tensor:
    """Return (M,) int64, the number of each element's segment.

    Args:
        offsets: (B + 1,) int64, from 0 to ``total``, not decreasing.
        total: M.

    Example:
        >>> segment_ids(torch.tensor([0, 2, 2, 3]), 3)
        tensor([0, 0, 2])
    """
    segments = torch.arange(offsets.shape[0] - 1, device=offsets.device)
    return torch.repeat_interleave(segments, offsets.diff(), output_size=total)


def segment_sum(values: Tensor, ids: Tensor, segments: int) -> Tensor:
    """Return (..., B), the sum of the last dimension over each segment; an empty one has 0.

    Args:
        values: (..., M) floating.
        ids: (M,) int64, from ``segment_ids``.
        segments: B.

    Example:
        >>> segment_sum(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 0, 2]), 3)
        tensor([3., 0., 5.])
    """
    return values.new_zeros(*values.shape[:-1], segments).index_add(-1, ids, values)


def segment_softmax(logits: Tensor, ids: Tensor, segments: int) -> SegmentSoftmax:
    """Return the softmax of the last dimension within each segment, accumulated in float32 or wider.

    A logit of -inf counts as deleted; a segment of nothing else has probabilities 0.

    Args:
        logits: (..., M) floating, unnormalised; -inf allowed.
        ids: (M,) int64, from ``segment_ids``.
        segments: B.

    Example:
        >>> segment_softmax(torch.tensor([0.0, 0.0, 7.0]), torch.tensor([0, 0, 1]), 2).probs
        tensor([0.5000, 0.5000, 1.0000])
    """
    wide = logits.to(_checks.accumulation_dtype(logits))
    # A shift leaves the softmax alone, so the maximum needs no gradient. A segment of nothing but -inf gets the
    # lowest number in its place, since -inf - -inf is NaN.
    shifted = wide - _segment_max(wide.detach(), ids, segments).index_select(-1, ids)
    sums = segment_sum(shifted.exp(), ids, segments)
    # A segment without support sums to 0, and log 0 would be -inf.
    log_sums = torch.where(sums > 0, sums, 1.0).log()
    raw = shifted - log_sums.index_select(-1, ids)
    probs = raw.exp()  # 0 where raw is -inf, and so is its gradient
    return SegmentSoftmax(torch.where(probs > 0, raw, 0.0), probs)  # 0 log 0 = 0, in value and gradient


def segment_argmax(values: Tensor, ids: Tensor, segments: int) -> Tensor:
    """Return (..., B) int64, the place in the packed dimension of each segment's largest element; no segment empty.

    Args:
        values: (..., M) floating without NaN; of equal ones the first counts.
        ids: (M,) int64, from ``segment_ids``.
        segments: B.

    Example:
        >>> segment_argmax(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([0, 0, 1]), 2)
        tensor([1, 2])
    """
    total = values.shape[-1]
    largest = values == _segment_max(values, ids, segments).index_select(-1, ids)
    places = torch.arange(total, device=values.device).where(largest, total)
    firsts = places.new_full((*values.shape[:-1], segments), total)
    return firsts.scatter_reduce(-1, ids.expand(places.shape), places, "amin")


def _segment_max(values: Tensor, ids: Tensor, segments: int) -> Tensor:
    lowest = values.new_full((*values.shape[:-1], segments), torch.finfo(values.dtype).min)
    return lowest.scatter_reduce(-1, ids.expand(values.shape), values, "amax")


def segment_weighted_sum(values: Tensor, weights: Tensor, offsets: Tensor, sizes: tuple[int, ...]) -> Tensor:
    r"""Return (B, K, D), the weighted sums of each segment's rows; differentiable once.

    $$z_{bkd} = \sum_{m \in b} w_{km} h_{md}$$

    Args:
        values: (M, D) floating.
        weights: (K, M) floating; the sums are taken in its dtype, so give half-precision values float32 weights.
        offsets: (B + 1,) int64.
        sizes: length of each segment, ``offsets.diff()`` without reading the device.

    Returns:
        (B, K, D).

    Raises:
        ValueError: ``values`` and ``weights`` do not fit.

    Example:
        >>> h = torch.tensor([[1.0], [2.0], [3.0]])
        >>> segment_weighted_sum(h, torch.ones(1, 3), torch.tensor([0, 2, 3]), (2, 1)).flatten()
        tensor([3., 3.])
    """
    if weights.dim() != 2 or values.dim() != 2 or weights.shape[1] != values.shape[0]:
        raise ValueError(
            f"values and weights must have shapes (M, D) and (K, M), got {tuple(values.shape)} and "
            f"{tuple(weights.shape)}"
        )
    summed = _WeightedSum.apply(values.to(weights.dtype), weights, offsets, sizes)  # type: ignore[no-untyped-call]
    result: Tensor = summed
    return result


class _WeightedSum(torch.autograd.Function):
    """Autograd's own way makes an (M, D) product in the forward pass and several (M, D) zeros in the backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, offsets: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(values, weights, offsets)
        ctx.sizes = sizes
        if len(weights) > 1 and _are_long(sizes):
            parts = zip(torch.split(weights, list(sizes), 1), torch.split(values, list(sizes)), strict=True)
            return torch.stack([rows @ own for rows, own in parts])
        everything = torch.arange(values.shape[0], device=values.device)
        sums = [
            F.embedding_bag(everything, values, offsets[:-1], mode="sum", per_sample_weights=row)
            for row in weights.contiguous()
        ]
        return torch.stack(sums, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, weights, offsets = ctx.saved_tensors
        ids = segment_ids(offsets, values.shape[0])
        grad_values = _outer(weights, grad, ids, ctx.sizes) if ctx.needs_input_grad[0] else None
        grad_weights = _inner(values, grad, ids, ctx.sizes) if ctx.needs_input_grad[1] else None
        return grad_values, grad_weights, None, None


def _are_long(sizes: tuple[int, ...]) -> bool:
    return sum(sizes) >= _LONG * len(sizes)


def _outer(weights: Tensor, grad: Tensor, ids: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return (M, D), each element's weights times its segment's gradient."""
    if len(weights) > 1 and _are_long(sizes):
        parts = zip(torch.split(weights, list(sizes), 1), grad, strict=True)
        return torch.cat([rows.T @ own for rows, own in parts])
    rows = (
        own.index_select(0, ids).mul_(row.unsqueeze(1)) for row, own in zip(weights, grad.unbind(1), strict=True)
    )
    total = next(rows)
    for row in rows:
        total += row
    return total


def _inner(values: Tensor, grad: Tensor, ids: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return (K, M), the product of each element with its segment's gradient."""
    if _are_long(sizes):
        return torch.cat(
            [own @ rows.T for own, rows in zip(grad, torch.split(values, list(sizes)), strict=True)], dim=1
        )
    return torch.stack([(values * own.index_select(0, ids)).sum(1) for own in grad.unbind(1)])
