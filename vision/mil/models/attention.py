"""What the attention models are made of: the trunk, the scores, and the pooling that reads them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from entroreg import _checks
from entroreg.segments import segment_ids, segment_softmax, segment_weighted_sum
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.models.streaming import read, stream

_PAPER_WIDTHS = {384: 128, 512: 256, 768: 384, 1024: 512, 1536: 768}  # AEM's own, by the features' width
_LEAST_WIDTH = 16


class Pooled(NamedTuple):
    """What attention makes of B bags with M instances in all.

    Attributes:
        features: (B, K, hidden), a weighted mean for each row of attention.
        logits: (K, M) attention logits; None if streamed in training.
        entropy: (K, B) nats; None unless streamed in training.
    """

    features: Tensor
    logits: Tensor | None
    entropy: Tensor | None


class TanhScores(nn.Module):
    """Attention logits w^T tanh(V h).

    Args:
        hidden: width of h.
        attention: width of V's output.
        rows: attention rows K.

    Reference:
        Ilse, Tomczak, Welling (2018), "Attention-based deep multiple instance learning", eq. 8.
    """

    def __init__(self, hidden: int, attention: int = 128, rows: int = 1) -> None:
        super().__init__()
        self.value = nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, rows)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (M, K) logits of (M, hidden)."""
        logits: Tensor = self.score(torch.tanh(self.value(hidden)))
        return logits


class GatedScores(nn.Module):
    """Attention logits w^T (tanh(V h) * sigmoid(U h)).

    Args:
        hidden: width of h.
        attention: width of the outputs of V and U.
        rows: attention rows K.

    Reference:
        Ilse, Tomczak, Welling (2018), "Attention-based deep multiple instance learning", eq. 9.
    """

    def __init__(self, hidden: int, attention: int = 128, rows: int = 1) -> None:
        super().__init__()
        self.value = nn.Linear(hidden, attention)
        self.gate = nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, rows)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (M, K) logits of (M, hidden)."""
        logits: Tensor = self.score(torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden)))
        return logits


def width_for(in_features: int, hidden: int | None) -> int:
    """Return the width of the trunk: what was asked for, else the paper's, else half of the features' width.

    Raises:
        ValueError: a width below 1.
    """
    if hidden is None:
        return _PAPER_WIDTHS.get(in_features, max(_LEAST_WIDTH, in_features // 2))
    return int(_checks.require_number("hidden", hidden, low=1))


def new_trunk(in_features: int, hidden: int, dropout: float) -> nn.Sequential:
    """Return the paper's trunk: Linear without a bias, ReLU, dropout.

    Raises:
        ValueError: dropout not in [0, 1].
    """
    _checks.require_number("dropout", dropout, low=0.0, high=1.0)
    layers = [nn.Linear(in_features, hidden, bias=False), nn.ReLU(inplace=True)]
    # A dropout of 0 would still draw and multiply a mask of all activations.
    return nn.Sequential(*layers, nn.Dropout(dropout)) if dropout > 0.0 else nn.Sequential(*layers)


class AttentionPooling(nn.Module):
    r"""A trunk, scores, and the weighted mean of each bag: z_k = sum_n softmax(a_k)_n h_n.

    Bags longer than ``chunk_size`` are streamed: read in chunks whose activations are computed again in the
    backward pass. The result and its gradient are the same up to rounding, and memory is that of one chunk. In
    training a streamed batch has entropies in place of attention logits; without gradients the logits are kept.

    Args:
        trunk: (M, in_features) -> (M, hidden).
        scores: (M, hidden) -> (M, K).
        chunk_size: instances of a chunk, at least 1; None never streams.

    Raises:
        ValueError: chunk_size below 1.
    """

    def __init__(self, trunk: nn.Module, scores: nn.Module, chunk_size: int | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.scores = scores
        self.chunk_size = (
            None if chunk_size is None else int(_checks.require_number("chunk_size", chunk_size, low=1))
        )

    def forward(self, bags: Bags) -> Pooled:
        """Return the pooled features of B packed bags."""
        if self.chunk_size is not None and max(bags.sizes) > self.chunk_size:
            return self._streamed(bags, self.chunk_size)
        hidden, logits = self._attend(bags.features)
        if len(bags) == 1:  # nothing is packed, and a bag at a time is as fast as by hand
            weights = torch.softmax(logits.to(_checks.accumulation_dtype(logits)), dim=1)
            return Pooled((weights @ hidden.to(weights.dtype)).unsqueeze(0), logits, None)
        weights = segment_softmax(logits, segment_ids(bags.offsets, len(hidden)), len(bags)).probs
        return Pooled(segment_weighted_sum(hidden, weights, bags.offsets, bags.sizes), logits, None)

    def _attend(self, instances: Tensor) -> tuple[Tensor, Tensor]:
        """Return (M, hidden) and (K, M) of (M, in_features)."""
        hidden = self.trunk(instances)
        return hidden, self.scores(hidden).T

    def _streamed(self, bags: Bags, chunk_size: int) -> Pooled:
        each = torch.split(bags.features, list(bags.sizes))
        if not torch.is_grad_enabled():
            found = [read(self._attend, bag, chunk_size) for bag in each]
            logits = torch.cat([rows for _, rows in found], dim=1)
            return Pooled(torch.stack([features for features, _ in found]), logits, None)
        owned = list(self.parameters())
        streamed = [stream(self._attend, bag, chunk_size, owned) for bag in each]
        entropy = torch.stack([one.entropy for one in streamed], dim=1)
        return Pooled(torch.stack([one.features for one in streamed]), None, entropy)
