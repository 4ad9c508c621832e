"""Controllers: owners of the entropy coefficient and its state, outside the task's graph."""

from entroreg.controllers.dual import Dual, alpha_loss, log_alpha_loss
from entroreg.controllers.fixed import Fixed, Scheduled
from entroreg.controllers.from_observation import FromObservation
from entroreg.controllers.per_state import PerStateDual
from entroreg.controllers.protocol import Controller
from entroreg.controllers.target import Target

__all__ = [
    "Controller",
    "Dual",
    "Fixed",
    "FromObservation",
    "PerStateDual",
    "Scheduled",
    "Target",
    "alpha_loss",
    "log_alpha_loss",
]
