"""ACMIL: several attention branches that are kept apart, and top instances masked at random."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from entroreg import _checks
from entroreg.measures.packed import ranks_within_segments
from entroreg.segments import segment_ids, segment_softmax, segment_sum, segment_weighted_sum
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.models.attention import GatedScores, new_trunk, width_for
from entroreg.vision.mil.models.base import MILModel
from entroreg.vision.mil.output import MILOutput


class ACMIL(MILModel):
    """Attention-challenging MIL: K gated attentions, each with a head, and a head on their mean.

    In training, of each branch's ``masked_top`` instances with the most attention the share ``mask_share`` is drawn
    at random and left out (STKIM), so that a branch cannot live on a few; the draw is torch's global one, as
    dropout's. The loss adds the mean cosine of each two branches' attention.

    Args:
        in_features: features of an instance.
        classes: number of classes, from 2.
        hidden: width of h; the paper's for the features' width if None.
        dropout: after the trunk, in [0, 1].
        branches: K, from 2.
        masked_top: instances of a branch that may be left out; 0 masks none.
        mask_share: share of them that is, in [0, 1).

    Raises:
        ValueError: branches, masked_top or mask_share out of range.

    Reference:
        Zhang et al. (2024), "Attention-challenging multiple instance learning ...", arXiv 2311.07125, eq. 4-8.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        branches: int = 5,
        masked_top: int = 10,
        mask_share: float = 0.6,
    ) -> None:
        super().__init__(in_features, classes)
        branches = int(_checks.require_number("branches", branches, low=2))
        self.masked_top = int(_checks.require_number("masked_top", masked_top, low=0))
        if not 0.0 <= _checks.require_number("mask_share", mask_share) < 1.0:
            raise ValueError(f"mask_share must be in [0, 1), got {mask_share}: a branch needs an instance")
        self.mask_share = float(mask_share)
        width = width_for(in_features, hidden)
        self.trunk = new_trunk(in_features, width, dropout)
        self.scores = GatedScores(width, rows=branches)
        self.branch_heads = nn.ModuleList([nn.Linear(width, classes) for _ in range(branches)])
        self.head = nn.Linear(width, classes)

    def forward(self, bags: Bags) -> MILOutput:
        """Return (B, C) logits of the mean attention and of each branch, and a row of attention for each branch."""
        hidden = self.trunk(bags.features)
        logits = self.scores(hidden).T
        if self.training and self.masked_top:
            logits = logits.masked_fill(self._left_out(logits.detach(), bags), -torch.inf)
        ids = segment_ids(bags.offsets, len(hidden))
        weights = segment_softmax(logits, ids, len(bags)).probs
        pooled = segment_weighted_sum(hidden, weights, bags.offsets, bags.sizes)  # (B, K, hidden)
        branches = [head(rows) for head, rows in zip(self.branch_heads, pooled.unbind(1), strict=True)]
        return MILOutput(
            self.head(pooled.mean(dim=1)),
            attention_logits=logits,
            auxiliary_logits=torch.stack(branches),
            attention_similarity=_mean_cosine(weights, ids, len(bags)),
        )

    def bag_losses(self, output: MILOutput, labels: Tensor) -> Tensor:
        """Return (B,), each bag's cross-entropy, plus its branches' mean one, plus their mean similarity."""
        assert output.auxiliary_logits is not None
        assert output.attention_similarity is not None
        branches = [nn.functional.cross_entropy(one, labels, reduction="none") for one in output.auxiliary_logits]
        return super().bag_losses(output, labels) + torch.stack(branches).mean(dim=0) + output.attention_similarity

    def _left_out(self, logits: Tensor, bags: Bags) -> Tensor:
        """Return (K, M) boolean, True for int(share * n) random ones of each bag's n top instances."""
        ranks = ranks_within_segments(logits, bags.offsets)
        lots = torch.rand_like(logits).masked_fill(ranks >= self.masked_top, -1.0)  # only the top ones take part
        sizes = [int(self.mask_share * min(self.masked_top, size)) for size in bags.sizes]
        drawn = torch.tensor(sizes, device=logits.device).index_select(
            0, segment_ids(bags.offsets, logits.shape[1])
        )
        return ranks_within_segments(lots, bags.offsets) < drawn


def _mean_cosine(weights: Tensor, ids: Tensor, bags: int) -> Tensor:
    """Return (B,), the mean cosine of each two of K rows of attention within each bag."""
    rows = len(weights)
    first, second = torch.triu_indices(rows, rows, offset=1, device=weights.device)
    products = segment_sum(weights[first] * weights[second], ids, bags)
    lengths = segment_sum(weights.square(), ids, bags).sqrt()
    return (products / (lengths[first] * lengths[second])).mean(dim=0)
