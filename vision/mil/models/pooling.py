"""Baselines without attention: the mean and the maximum of a bag."""

from __future__ import annotations

from torch import Tensor, nn

from entroreg.segments import segment_argmax, segment_ids, segment_weighted_sum
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.models.attention import new_trunk, width_for
from entroreg.vision.mil.models.base import MILModel
from entroreg.vision.mil.output import MILOutput


class MeanPooling(MILModel):
    """The mean of a bag's instances, and a linear head.

    Args:
        in_features: features of an instance.
        classes: number of classes, from 2.
        hidden: width of h; the paper's for the features' width if None.
        dropout: after the trunk, in [0, 1].
    """

    def __init__(self, in_features: int, classes: int, *, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__(in_features, classes)
        width = width_for(in_features, hidden)
        self.trunk = new_trunk(in_features, width, dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, bags: Bags) -> MILOutput:
        """Return (B, C) logits; there is no attention."""
        hidden = self.trunk(bags.features)
        shares = (1.0 / bags.offsets.diff()).float()
        weights = shares.index_select(0, segment_ids(bags.offsets, len(hidden))).unsqueeze(0)
        means = segment_weighted_sum(hidden, weights.to(hidden.dtype), bags.offsets, bags.sizes)
        logits: Tensor = self.head(means.squeeze(1))
        return MILOutput(logits)


class MaxPooling(MILModel):
    """A linear head on every instance, and for each class the largest of a bag's logits.

    Args:
        in_features: features of an instance.
        classes: number of classes, from 2.
        hidden: width of h; the paper's for the features' width if None.
        dropout: after the trunk, in [0, 1].
    """

    def __init__(self, in_features: int, classes: int, *, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__(in_features, classes)
        width = width_for(in_features, hidden)
        self.trunk = new_trunk(in_features, width, dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, bags: Bags) -> MILOutput:
        """Return (B, C) logits; there is no attention."""
        scores = self.head(self.trunk(bags.features)).T
        ids = segment_ids(bags.offsets, scores.shape[1])
        return MILOutput(scores.gather(1, segment_argmax(scores.detach(), ids, len(bags))).T)
