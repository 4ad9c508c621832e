"""Agents: SAC and DiscreteSAC, interchangeable with Stable-Baselines3's, and populations of SAC."""

if __name__ == "agents":
    raise ImportError("import it as entroreg.agents: a bare 'agents' would exist twice")

try:
    import stable_baselines3  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: agents need pip install 'entroreg[rl]'", name=error.name) from error

from entroreg.agents.controller_state import saved_controller_state
from entroreg.agents.discrete_sac import DiscreteSAC
from entroreg.agents.population import SACPopulation
from entroreg.agents.sac import SAC

__all__ = ["SAC", "DiscreteSAC", "SACPopulation", "saved_controller_state"]
