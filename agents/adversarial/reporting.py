"""What the loop of adversarial training tells: to a logger that both players share, and on a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger

from entroreg.agents.adversarial.phase import PhaseRecord


def record_phases(logger: Logger, attack: PhaseRecord, defence: PhaseRecord, step: dict[str, float] | None) -> None:
    """Record an iteration: returns of the protagonist, seconds and steps by phase, the curriculum's step if any."""
    logger.record("rollout/return_with_learning_adversary", -float(np.mean(attack.returns)))
    logger.record("rollout/return_with_frozen_adversary", float(np.mean(defence.returns)))
    for name, value in (step or {}).items():
        logger.record(f"curriculum/{name}", value)
    for name, phase in (("adversary", attack), ("protagonist", defence)):
        logger.record(f"time/{name}_seconds", phase.seconds)
        logger.record(f"time/{name}_update_seconds", phase.update_seconds)
        logger.record(f"time/{name}_steps", phase.steps)


class PrefixedLogger(Logger):
    """A player's part of a shared logger, which the loop writes out.

    Args:
        name: of the player, in front of all that it records.
        shared: the logger.
    """

    def __init__(self, name: str, shared: Logger) -> None:
        super().__init__(shared.dir, [])
        self._name, self._shared = name, shared

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        """Record under the player's name."""
        self._shared.record(f"{self._name}/{key}", value, exclude)

    def record_mean(self, key: str, value: float | None, exclude: Any = None) -> None:
        """Record a mean under the player's name."""
        self._shared.record_mean(f"{self._name}/{key}", value, exclude)

    def dump(self, step: int = 0) -> None:
        """Leave the writing to the loop."""


@contextmanager
def show_progress(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar inside the block, where one is asked for; what is yielded takes the steps that are done."""
    if not shown:
        yield lambda _done: None
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: a progress bar needs pip install tqdm") from error
    with tqdm(total=total) as bar:

        def advance(done: int) -> None:
            bar.update(min(done, total) - bar.n)

        yield advance
