"""Entropy regularisation for PyTorch: measures, penalties, controllers, selectors.

Names are loaded when first used (PEP 562), so ``import entroreg`` costs no torch import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from entroreg import (
        adaptation,
        checkpoint,
        controllers,
        grouping,
        guards,
        measures,
        penalties,
        policy_gradient,
        schedules,
        selectors,
    )
    from entroreg.controllers import Controller, Dual, Fixed, FromObservation, PerStateDual, Scheduled
    from entroreg.curriculum import GammaCurriculum
    from entroreg.loss_balance import LossBalance
    from entroreg.regularizer import EntropyRegularizer
    from entroreg.temperature_matching import MatchTemperature

_MODULES = (
    "adaptation",
    "checkpoint",
    "controllers",
    "grouping",
    "guards",
    "measures",
    "penalties",
    "policy_gradient",
    "schedules",
    "selectors",
)
_HOMES = {
    "Controller": "entroreg.controllers",
    "Dual": "entroreg.controllers",
    "EntropyRegularizer": "entroreg.regularizer",
    "Fixed": "entroreg.controllers",
    "FromObservation": "entroreg.controllers",
    "GammaCurriculum": "entroreg.curriculum",
    "LossBalance": "entroreg.loss_balance",
    "MatchTemperature": "entroreg.temperature_matching",
    "PerStateDual": "entroreg.controllers",
    "Scheduled": "entroreg.controllers",
}

__all__ = [
    "Controller",
    "Dual",
    "EntropyRegularizer",
    "Fixed",
    "FromObservation",
    "GammaCurriculum",
    "LossBalance",
    "MatchTemperature",
    "PerStateDual",
    "Scheduled",
    "adaptation",
    "checkpoint",
    "controllers",
    "grouping",
    "guards",
    "measures",
    "penalties",
    "policy_gradient",
    "schedules",
    "selectors",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"entroreg.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'entroreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
