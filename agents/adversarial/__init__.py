"""Training against an adversary who pushes the task's bodies: QARL, RARL and their relatives."""

from entroreg.agents.adversarial.action_attack import attacked_sac
from entroreg.agents.adversarial.curricula import (
    ConstantTemperature,
    Curriculum,
    LinearTemperature,
    PointCurriculum,
)
from entroreg.agents.adversarial.players import PlayerSettings
from entroreg.agents.adversarial.qarl import QARL, RARL, force_curriculum, homogeneous, mixed_nash
from entroreg.agents.adversarial.two_players import TwoPlayers
from entroreg.agents.adversarial.worst_parameters import WorstParameterSAC, worst_parameter_sac

__all__ = [
    "QARL",
    "RARL",
    "ConstantTemperature",
    "Curriculum",
    "LinearTemperature",
    "PlayerSettings",
    "PointCurriculum",
    "TwoPlayers",
    "WorstParameterSAC",
    "attacked_sac",
    "force_curriculum",
    "homogeneous",
    "mixed_nash",
    "worst_parameter_sac",
]
