"""Multiple instance learning on packed bags of features, with attention-entropy maximisation (AEM)."""

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.attention_entropy import AttentionEntropy
from entroreg.vision.mil.bags import Bags, pack
from entroreg.vision.mil.dataset import BagDataset, BagPart, BagsInMemory
from entroreg.vision.mil.models import (
    ABMIL,
    ACMIL,
    DSMIL,
    MODELS,
    GatedABMIL,
    MaxPooling,
    MeanPooling,
    MILModel,
    MultiHeadABMIL,
)
from entroreg.vision.mil.output import MILOutput

__all__ = [
    "ABMIL",
    "ACMIL",
    "DSMIL",
    "MODELS",
    "AttentionEntropy",
    "BagDataset",
    "BagPart",
    "Bags",
    "BagsInMemory",
    "DataError",
    "GatedABMIL",
    "MILModel",
    "MILOutput",
    "MaxPooling",
    "MeanPooling",
    "MultiHeadABMIL",
    "pack",
]
