"""Agents: SAC and DiscreteSAC as in Stable-Baselines3, populations of SAC, QARL and RARL against an adversary."""

if __name__ == "agents":
    raise ImportError("import it as entroreg.agents: a bare 'agents' would exist twice")

try:
    import stable_baselines3  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: agents need pip install 'entroreg[rl]'", name=error.name) from error

from typing import TYPE_CHECKING, Any

from entroreg.agents.controller_state import saved_controller_state
from entroreg.agents.discrete_sac import DiscreteSAC
from entroreg.agents.population import SACPopulation
from entroreg.agents.resumable_training import ResumableTraining
from entroreg.agents.sac import SAC
from entroreg.agents.safe_zip import UnsafeZipError

if TYPE_CHECKING:
    from entroreg.agents.adversarial import QARL, RARL

__all__ = [
    "QARL",
    "RARL",
    "SAC",
    "DiscreteSAC",
    "ResumableTraining",
    "SACPopulation",
    "UnsafeZipError",
    "saved_controller_state",
]


def __getattr__(name: str) -> Any:
    if name in ("QARL", "RARL"):  # when first used: they need MuJoCo, the other agents do not
        from entroreg.agents import adversarial

        return getattr(adversarial, name)
    raise AttributeError(f"module 'entroreg.agents' has no attribute {name!r}")
