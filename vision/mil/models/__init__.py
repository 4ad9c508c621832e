"""MIL models of packed bags, multiclass; all return a `MILOutput`."""

from entroreg.vision.mil.models.abmil import ABMIL, GatedABMIL
from entroreg.vision.mil.models.acmil import ACMIL
from entroreg.vision.mil.models.base import MILModel
from entroreg.vision.mil.models.dsmil import DSMIL
from entroreg.vision.mil.models.multi_head import MultiHeadABMIL
from entroreg.vision.mil.models.pooling import MaxPooling, MeanPooling

__all__ = [
    "ABMIL",
    "ACMIL",
    "DSMIL",
    "MODELS",
    "GatedABMIL",
    "MILModel",
    "MaxPooling",
    "MeanPooling",
    "MultiHeadABMIL",
]

MODELS: dict[str, type[MILModel]] = {
    "mean": MeanPooling,
    "max": MaxPooling,
    "abmil": ABMIL,
    "gated-abmil": GatedABMIL,
    "multi-head": MultiHeadABMIL,
    "dsmil": DSMIL,
    "acmil": ACMIL,
}
