"""Attention-based MIL: one attention row, plain or gated."""

from __future__ import annotations

from torch import Tensor, nn

from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.models.attention import AttentionPooling, GatedScores, TanhScores, new_trunk, width_for
from entroreg.vision.mil.models.base import MILModel
from entroreg.vision.mil.output import MILOutput


class ABMIL(MILModel):
    r"""Attention-based MIL: z = sum_n softmax(a)_n h_n with a_n = w^T tanh(V h_n), and a linear head.

    Args:
        in_features: features of an instance.
        classes: number of classes, from 2.
        hidden: width of h; the paper's for the features' width if None.
        dropout: after the trunk, in [0, 1].
        chunk_size: bags of more instances are streamed; None never.

    Example:
        >>> import torch
        >>> from entroreg.vision.mil import pack
        >>> output = ABMIL(8, classes=2)(pack([torch.zeros(3, 8), torch.zeros(1, 8)]))
        >>> output.logits.shape, output.attention_logits.shape
        (torch.Size([2, 2]), torch.Size([1, 4]))

    Reference:
        Ilse, Tomczak, Welling (2018), "Attention-based deep multiple instance learning", eq. 7-8.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(in_features, classes)
        width = width_for(in_features, hidden)
        self.pooling = AttentionPooling(new_trunk(in_features, width, dropout), self._scores(width), chunk_size)
        self.head = nn.Linear(width, classes)

    @staticmethod
    def _scores(width: int) -> nn.Module:
        return TanhScores(width)

    def forward(self, bags: Bags) -> MILOutput:
        """Return (B, C) logits, and one row of attention."""
        pooled = self.pooling(bags)
        logits: Tensor = self.head(pooled.features.squeeze(1))
        return MILOutput(logits, attention_logits=pooled.logits, attention_entropy=pooled.entropy)


class GatedABMIL(ABMIL):
    r"""Gated attention-based MIL: a_n = w^T (tanh(V h_n) * sigmoid(U h_n)); otherwise as `ABMIL`.

    Reference:
        Ilse, Tomczak, Welling (2018), "Attention-based deep multiple instance learning", eq. 9.
    """

    @staticmethod
    def _scores(width: int) -> nn.Module:
        return GatedScores(width)
