"""Attention logits of other people's models, however they lay them out, as rows."""

from __future__ import annotations

from torch import Tensor

from entroreg import _checks

LAYOUTS = ("instances_first", "rows_first", "bags_first")


def attention_rows(attention: Tensor, *, layout: str, validate: bool = False, name: str = "attention") -> Tensor:
    """Return attention logits as rows over instances, ready for `categorical_entropy`, with their graph.

    Args:
        attention: floating, before the softmax, as a model returns it or as `AttentionTap` captures it.
        layout: "instances_first" for one bag's (N,), (N, 1), (N, K), (1, N, K); "rows_first" for one bag's (N,),
            (K, N), (1, K, N); "bags_first" for (B, N) and (B, N, 1), a row for each of several bags of one length,
            whose padding, if any, is for the measure's mask.
        validate: read the values and refuse NaN, and rows that are probabilities already; costs a device sync.
        name: of the tensor in messages.

    Returns:
        (K, N): a row for each head, class or branch; with "bags_first" (B, N).

    Raises:
        TypeError: attention that is no floating tensor.
        ValueError: another layout or shape, or what ``validate`` refuses.

    Example:
        >>> attention_rows(torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]), layout="instances_first")
        tensor([[0., 1., 2.],
                [3., 4., 5.]])
    """
    _checks.require_choice("layout", layout, LAYOUTS)
    _checks.require_floating(name, attention)
    rows = _rows_of_bags(name, attention) if layout == "bags_first" else _rows_of_one_bag(name, attention, layout)
    if validate:
        _checks.require_no_nan(name, rows)
        _require_logits(name, rows)
    return rows


def _rows_of_bags(name: str, attention: Tensor) -> Tensor:
    rows = attention.squeeze(2) if attention.dim() == 3 and attention.shape[2] == 1 else attention
    if rows.dim() != 2:
        raise ValueError(
            f"{name} must have shape (B, N) or (B, N, 1) for bags_first, got {tuple(attention.shape)}: "
            "run one bag at a time"
        )
    return rows


def _rows_of_one_bag(name: str, attention: Tensor, layout: str) -> Tensor:
    if attention.dim() == 1:
        return attention.unsqueeze(0)
    rows = attention.squeeze(0) if attention.dim() == 3 and attention.shape[0] == 1 else attention
    if rows.dim() != 2:
        raise ValueError(
            f"{name} must be one bag's, of shape (N,), (N, K) or (1, N, K) or with K before N, "
            f"got {tuple(attention.shape)}: run one bag at a time, or use bags_first if K = 1"
        )
    return rows.mT if layout == "instances_first" else rows


def _require_logits(name: str, rows: Tensor) -> None:
    if rows.shape[-1] < 2:  # the attention of one instance is 1 whatever its logit
        return
    sums = rows.detach().float().sum(-1)
    # 0.01: half precision sums to no better; logits whose rows all do so by chance are not to be expected
    if bool((rows >= 0).all()) and bool(((sums - 1.0).abs() < 0.01).all()):
        raise ValueError(
            f"{name} must be logits, got rows of probabilities, which sum to 1: take them before the softmax, "
            "since the softmax of probabilities is not the attention"
        )
