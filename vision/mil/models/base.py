"""The base of the MIL models: what training may rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from entroreg import _checks
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.output import MILOutput


class MILModel(nn.Module, ABC):
    """A classifier of packed bags.

    Args:
        in_features: features of an instance, D.
        classes: number of classes, C, from 2; a binary problem has two.

    Raises:
        ValueError: fewer than one feature or two classes.
    """

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.in_features = int(_checks.require_number("in_features", in_features, low=1))
        self.classes = int(_checks.require_number("classes", classes, low=2))

    @abstractmethod
    def forward(self, bags: Bags) -> MILOutput:
        """Return the predictions of B bags, and the attention behind them."""

    def bag_losses(self, output: MILOutput, labels: Tensor) -> Tensor:
        """Return (B,), what training minimises of each bag, without AEM: its cross-entropy.

        Args:
            output: of this model, B bags.
            labels: (B,) int64 in [0, C).
        """
        return F.cross_entropy(output.logits, labels, reduction="none")
