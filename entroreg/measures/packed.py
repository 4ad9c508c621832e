"""Shannon entropy of the softmax within each segment of packed logits: attention over bags of different sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.measures.categorical import categorical_entropy, normalized_entropy
from entroreg.segments import segment_ids, segment_softmax, segment_sum


def packed_entropy(logits: Tensor, offsets: Tensor, *, validate: bool = False) -> Tensor:
    r"""Return the Shannon entropy of the softmax within each segment, in nats, non-negated.

    $$H_b = -\sum_{n \in b} p_n \log p_n, \qquad p = \mathrm{softmax}(z_b)$$

    The same as ``categorical_entropy`` of each segment by itself. A logit of -inf counts as deleted; a segment
    without any element has entropy 0 and gradient 0. Half-precision input is accumulated in float32 and cast back.

    Args:
        logits: (..., M) floating, unnormalised, one segment after the other; -inf allowed.
        offsets: (B + 1,) int64, from 0 to M, not decreasing: segment b is ``offsets[b]`` to ``offsets[b + 1]``.
        validate: read the values and refuse NaN, +inf and offsets out of order; costs a device sync.

    Returns:
        (..., B) in the dtype of ``logits``, between 0 and the log of the segment's length, up to rounding.

    Raises:
        TypeError: logits not a floating tensor, or offsets not int64.
        ValueError: offsets of another shape or device, or values found by ``validate``.

    Example:
        >>> packed_entropy(torch.zeros(6), torch.tensor([0, 2, 6]))
        tensor([0.6931, 1.3863])

    Reference:
        Zhang et al. (2024), "AEM: attention entropy maximization", arXiv 2406.15303, eq. 2.
    """
    _check(logits, offsets, validate)
    if offsets.shape[0] == 2:  # one segment is a row, which needs no bookkeeping
        return categorical_entropy(logits).unsqueeze(-1)
    return _entropy(logits, offsets)[0].to(logits.dtype)


def packed_normalized_entropy(logits: Tensor, offsets: Tensor, *, validate: bool = False) -> Tensor:
    r"""Return the entropy of each segment over its largest possible value, H / log N, between 0 and 1.

    $$H_b / \log N_b$$

    N counts the elements whose logit is above -inf; a segment with N <= 1 has 0.

    Args:
        logits: (..., M) floating, unnormalised, one segment after the other; -inf allowed.
        offsets: (B + 1,) int64, from 0 to M, not decreasing.
        validate: read the values and refuse NaN, +inf and offsets out of order; costs a device sync.

    Returns:
        (..., B) in the dtype of ``logits``.

    Raises:
        TypeError: logits not a floating tensor, or offsets not int64.
        ValueError: offsets of another shape or device, or values found by ``validate``.

    Example:
        >>> packed_normalized_entropy(torch.zeros(6), torch.tensor([0, 2, 6]))
        tensor([1., 1.])

    Reference:
        Pielou (1966), "The measurement of diversity in different types of biological collections" (evenness).
    """
    _check(logits, offsets, validate)
    if offsets.shape[0] == 2:
        return normalized_entropy(logits).unsqueeze(-1)
    entropy, ids = _entropy(logits, offsets)
    count = segment_sum((logits != -torch.inf).to(entropy.dtype), ids, offsets.shape[0] - 1)
    # log 1 = 0: segments with fewer than two elements divide by log 2 instead, and their entropy is 0 anyway.
    return (entropy / count.clamp(min=2).log()).to(logits.dtype)


def packed_topk_entropy(logits: Tensor, offsets: Tensor, k: int, *, validate: bool = False) -> Tensor:
    r"""Return the entropy of each segment's k largest probabilities, renormalised, in nats, non-negated.

    $$H_b = -\sum_{n \in \mathrm{top}_k(b)} q_n \log q_n, \qquad
      q_n = p_n \Big/ \sum_{n' \in \mathrm{top}_k(b)} p_{n'}$$

    Of equal logits the earlier counts as larger. A segment shorter than k counts in full.

    Args:
        logits: (..., M) floating, unnormalised, one segment after the other; -inf allowed.
        offsets: (B + 1,) int64, from 0 to M, not decreasing.
        k: elements of each segment that count, at least 1.
        validate: read the values and refuse NaN, +inf and offsets out of order; costs a device sync.

    Returns:
        (..., B) in the dtype of ``logits``, between 0 and log k, up to rounding.

    Raises:
        TypeError: logits not a floating tensor, offsets not int64, or k no number.
        ValueError: offsets of another shape or device, k below 1, or values found by ``validate``.

    Example:
        >>> packed_topk_entropy(torch.tensor([0.0, 0.0, 5.0, 5.0]), torch.tensor([0, 4]), k=2)
        tensor([0.6931])

    Reference:
        Zhang et al. (2024), arXiv 2406.15303 (top-k variant).
    """
    _check(logits, offsets, validate)
    k = int(_checks.require_number("k", k, low=1))
    kept = ranks_within_segments(logits.detach(), offsets) < k
    return _entropy(logits.where(kept, -torch.inf), offsets)[0].to(logits.dtype)


def ranks_within_segments(values: Tensor, offsets: Tensor) -> Tensor:
    """Return (..., M) int64: how many elements of its segment come before each element, from the largest down.

    Args:
        values: (..., M) floating; of equal ones the earlier comes first.
        offsets: (B + 1,) int64.

    Example:
        >>> ranks_within_segments(torch.tensor([1.0, 3.0, 2.0, 9.0]), torch.tensor([0, 3, 4]))
        tensor([2, 0, 1, 0])
    """
    total = values.shape[-1]
    ids = segment_ids(offsets, total)
    by_value = values.argsort(dim=-1, descending=True, stable=True)
    by_segment = ids[by_value].argsort(dim=-1, stable=True)
    order = by_value.gather(-1, by_segment)  # segments one after the other, each from its largest down
    places = (torch.arange(total, device=values.device) - offsets.index_select(0, ids)).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def _entropy(logits: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return (entropies in the accumulation dtype, segment ids)."""
    segments = offsets.shape[0] - 1
    ids = segment_ids(offsets, logits.shape[-1])
    log_probs, probs = segment_softmax(logits, ids, segments)
    return 0.0 - segment_sum(probs * log_probs, ids, segments), ids  # never -0


def _check(logits: Tensor, offsets: Tensor, validate: bool) -> None:
    _checks.require_floating("logits", logits)
    if not isinstance(offsets, Tensor) or offsets.dtype != torch.int64:
        got = offsets.dtype if isinstance(offsets, Tensor) else type(offsets).__name__
        raise TypeError(f"offsets must be an int64 tensor, got {got}: torch.tensor([0, *cumulative_sizes])")
    if offsets.dim() != 1 or not len(offsets):
        raise ValueError(f"offsets must have shape (segments + 1,), got {tuple(offsets.shape)}")
    if offsets.device != logits.device:
        raise ValueError(f"offsets must be on the device of logits, {logits.device}, got {offsets.device}")
    if validate:
        _checks.require_no_nan("logits", logits)
        _require_order(offsets, logits.shape[-1])


def _require_order(offsets: Tensor, total: int) -> None:
    if int(offsets[0]) != 0 or int(offsets[-1]) != total or bool((offsets.diff() < 0).any()):
        raise ValueError(f"offsets must rise from 0 to the {total} logits, got {offsets.tolist()[:20]}")
