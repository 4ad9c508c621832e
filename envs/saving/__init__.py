"""The state of an environment between two steps, for a checkpoint: taken out as plain data, put back in place."""

from entroreg.envs.saving.environment_state import environment_state, load_environment_state
from entroreg.envs.saving.errors import CannotSaveError, WithinEpisodeError
from entroreg.envs.saving.seeded_episodes import SeededEpisodes
from entroreg.envs.saving.trial import why_not_exact

__all__ = [
    "CannotSaveError",
    "SeededEpisodes",
    "WithinEpisodeError",
    "environment_state",
    "load_environment_state",
    "why_not_exact",
]
