"""Multi-head attention of one learned query over a bag."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from entroreg import _checks
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.models.attention import AttentionPooling, new_trunk, width_for
from entroreg.vision.mil.models.base import MILModel
from entroreg.vision.mil.output import MILOutput


class QueryScores(nn.Module):
    r"""Attention logits of one learned query, a row for each head: a_kn = q_k^T (W_k h_n + b_k) / sqrt(d).

    Since the query does not depend on the bag, q_k^T W_k is one vector for each head.

    Args:
        hidden: width of h, a multiple of ``heads``.
        heads: K.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(heads, hidden // heads) / math.sqrt(hidden // heads))
        self.key = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (M, K) logits of (M, hidden)."""
        heads, width = self.query.shape
        weight = torch.einsum("kd,kdh->kh", self.query, self.key.weight.view(heads, width, -1))
        bias = (self.query * self.key.bias.view(heads, width)).sum(dim=1)
        return nn.functional.linear(hidden, weight / math.sqrt(width), bias / math.sqrt(width))


class MultiHeadABMIL(MILModel):
    r"""Multi-head attention with one learned query: ``nn.MultiheadAttention`` over the bag, and a linear head.

    The weighted means are taken of h and projected afterwards, head by head, which is the same by linearity and
    needs no (M, hidden) keys and values.

    Args:
        in_features: features of an instance.
        classes: number of classes, from 2.
        hidden: width of h, a multiple of ``heads``; the paper's for the features' width if None.
        dropout: after the trunk, in [0, 1].
        heads: attention rows K.
        chunk_size: bags of more instances are streamed; None never.

    Raises:
        ValueError: a width that the heads do not divide.

    Reference:
        Vaswani et al. (2017), "Attention is all you need", section 3.2.2; AEM's multi-head model, arXiv 2406.15303.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        heads: int = 8,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(in_features, classes)
        width = width_for(in_features, hidden)
        heads = int(_checks.require_number("heads", heads, low=1))
        if hidden is None:
            width = math.ceil(width / heads) * heads
        if width % heads:
            raise ValueError(f"hidden must be a multiple of heads={heads}, got {width}")
        self.pooling = AttentionPooling(
            new_trunk(in_features, width, dropout), QueryScores(width, heads), chunk_size
        )
        self.value = nn.Linear(width, width)
        self.projection = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, bags: Bags) -> MILOutput:
        """Return (B, C) logits, and a row of attention for each head."""
        pooled = self.pooling(bags)
        heads = pooled.features.shape[1]
        weight = self.value.weight.view(heads, -1, self.value.in_features)
        values = torch.einsum("bkh,kdh->bkd", pooled.features, weight).flatten(1) + self.value.bias
        logits: Tensor = self.head(self.projection(values))
        return MILOutput(logits, attention_logits=pooled.logits, attention_entropy=pooled.entropy)
