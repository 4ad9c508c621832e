"""DSMIL: a dual stream of critical instances and of attention to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from entroreg.segments import segment_argmax, segment_ids, segment_softmax, segment_weighted_sum
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.models.attention import new_trunk, width_for
from entroreg.vision.mil.models.base import MILModel
from entroreg.vision.mil.output import MILOutput


class DSMIL(MILModel):
    r"""Dual-stream MIL: the attention of a class is the likeness of each instance to that class's critical one.

    $$m_c = \arg\max_n s_{nc}, \qquad a_{cn} = q(h_n)^T q(h_{m_c}) / \sqrt{d}$$

    Args:
        in_features: features of an instance.
        classes: number of classes C, from 2; each has an attention row.
        hidden: width of h; the paper's for the features' width if None.
        dropout: after the trunk, in [0, 1].
        attention: width d of the queries.

    Reference:
        Li, Li, Eliceiri (2021), "Dual-stream multiple instance learning network ...", arXiv 2011.08939, eq. 3-7.
        Differs from the paper: queries are scaled by 1/sqrt(d) as in its code, and h has AEM's trunk in front.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        attention: int = 128,
    ) -> None:
        super().__init__(in_features, classes)
        width = width_for(in_features, hidden)
        self.trunk = new_trunk(in_features, width, dropout)
        self.instance_head = nn.Linear(width, classes)
        self.query = nn.Sequential(
            nn.Linear(width, attention), nn.ReLU(inplace=True), nn.Linear(attention, attention), nn.Tanh()
        )
        self.head = nn.Linear(classes * width, classes)

    def forward(self, bags: Bags) -> MILOutput:
        """Return (B, C) logits of bags and of critical instances, and a row of attention for each class."""
        hidden = self.trunk(bags.features)
        scores, queries = self.instance_head(hidden).T, self.query(hidden)
        ids = segment_ids(bags.offsets, len(hidden))
        critical = segment_argmax(scores.detach(), ids, len(bags))  # (C, B)
        attention = torch.stack([_likeness(queries, queries.index_select(0, places), ids) for places in critical])
        weights = segment_softmax(attention, ids, len(bags)).probs
        pooled = segment_weighted_sum(hidden, weights, bags.offsets, bags.sizes)
        logits: Tensor = self.head(pooled.flatten(1))
        instances = scores.gather(1, critical).T
        return MILOutput(logits, attention_logits=attention, auxiliary_logits=instances.unsqueeze(0))

    def bag_losses(self, output: MILOutput, labels: Tensor) -> Tensor:
        """Return (B,), half the cross-entropy of each bag and half that of its critical instances."""
        assert output.auxiliary_logits is not None
        instances = nn.functional.cross_entropy(output.auxiliary_logits[0], labels, reduction="none")
        return 0.5 * super().bag_losses(output, labels) + 0.5 * instances


def _likeness(queries: Tensor, critical: Tensor, ids: Tensor) -> Tensor:
    """Return (M,), each query's product with that of its bag's critical instance, over the square root of d."""
    return (queries * critical.index_select(0, ids)).sum(dim=1) / math.sqrt(queries.shape[1])
