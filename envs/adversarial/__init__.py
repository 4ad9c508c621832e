"""One MuJoCo task as two environments: the protagonist's, and that of an adversary who pushes its bodies."""

from entroreg.envs.adversarial.forces import Forces, PushedTask, find_forces
from entroreg.envs.adversarial.mixed_actions import ActionShare, MixedActions
from entroreg.envs.adversarial.observed_temperature import ObservedTemperature
from entroreg.envs.adversarial.views import AdversaryView, Opponent, ProtagonistView

__all__ = [
    "ActionShare",
    "AdversaryView",
    "Forces",
    "MixedActions",
    "ObservedTemperature",
    "Opponent",
    "ProtagonistView",
    "PushedTask",
    "find_forces",
]
