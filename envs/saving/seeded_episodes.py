"""Episodes that are functions of seed and number, for environments whose state cannot be seen."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from entroreg.envs.saving.errors import CannotSaveError, WithinEpisodeError, malformed

_STREAM = 0x657069736F6465  # sets these seeds apart from those of anything else with the same seed


class SeededEpisodes(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """An environment each of whose episodes has a seed of its own, made of one seed and the episode's number.

    So its state at the beginning of an episode is two integers, whatever it holds inside. It is saved there, and a
    training that goes on does so exactly as long as an episode depends on nothing but its seed.

    Args:
        env: environment.
        seed: of all episodes; ``reset(seed=)`` replaces it and begins to count anew.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int = 0) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, seed=seed)
        gymnasium.Wrapper.__init__(self, env)
        self._seed, self._episode = seed, 0
        self._fresh = False
        self._options: dict[str, Any] | None = None

    @property
    def fresh(self) -> bool:
        """Whether an episode has begun of which no step was taken."""
        return self._fresh

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode, or with a seed the first one of that seed."""
        if seed is not None:
            self._seed, self._episode = seed, 0
        self._episode += 1
        self._fresh = True
        self._options = options
        return self._begin()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        self._fresh = False
        return self.env.step(action)

    def place(self) -> dict[str, int]:
        """Return seed and number of the episode.

        Raises:
            WithinEpisodeError: it is under way.
            CannotSaveError: it was begun with options, which are not saved.
        """
        if not self._fresh:
            raise WithinEpisodeError(
                "an environment in SeededEpisodes is saved between two episodes, not within one"
            )
        if self._options:
            raise CannotSaveError("an episode of SeededEpisodes that is saved must be begun without options")
        return {"seed": int(self._seed), "episode": self._episode}

    def go_to(self, place: dict[str, int]) -> None:
        """Begin the episode that ``place`` told.

        Raises:
            ValueError: no seed and number.
        """
        numbers = (place.get("seed"), place.get("episode"))
        if not all(type(number) is int and 0 <= number < 2**128 for number in numbers):
            raise malformed("SeededEpisodes", "a seed and the number of an episode, from 0", repr(place)[:100])
        self._seed, self._episode = place["seed"], place["episode"]
        self._fresh, self._options = True, None
        self._begin()

    def _begin(self) -> tuple[Any, dict[str, Any]]:
        (seed,) = np.random.SeedSequence([_STREAM, self._seed, self._episode]).generate_state(1)
        return self.env.reset(seed=int(seed) >> 1, options=self._options)
