"""Adaptation at test time: one loop, what it may change and on which samples, and published methods as settings."""

from entroreg.adaptation.adapter import AdaptationReport, AdaptationWarning, Adapter, Selection
from entroreg.adaptation.anchor import FisherAnchor
from entroreg.adaptation.parameters import module_parameters, normalisation_parameters, use_batch_statistics
from entroreg.adaptation.selection import Reliable, ReliableAndDiverse
from entroreg.adaptation.settings import centaur, eata, memo, sar, tent

__all__ = [
    "AdaptationReport",
    "AdaptationWarning",
    "Adapter",
    "FisherAnchor",
    "Reliable",
    "ReliableAndDiverse",
    "Selection",
    "centaur",
    "eata",
    "memo",
    "module_parameters",
    "normalisation_parameters",
    "sar",
    "tent",
    "use_batch_statistics",
]
