"""Callbacks of a training run, each for one thing; Stable-Baselines3 calls them at every step boundary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from stable_baselines3.common.callbacks import BaseCallback

from entroreg.agents.agent_checkpoint import save_agent
from entroreg.benchmarks.curves import WINDOW
from entroreg.benchmarks.progress import Progress

_LOGGED = {
    "alpha": "train/ent_coef",
    "entropy": "train/entropy",
    "target_entropy": "train/target_entropy",
    "critic_loss": "train/critic_loss",
    "actor_loss": "train/actor_loss",
}


class EpisodeRecorder(BaseCallback):
    """Writes a JSON line for each episode, with the agent's last metrics.

    Args:
        file: open text file for metrics.jsonl.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self._file = file
        self.rows: list[dict[str, float]] = []
        """One for each episode: step, return, length and, once training has begun, the metrics."""

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self._write(info["episode"])
        return True

    def _write(self, episode: dict[str, Any]) -> None:
        logged = self.model.logger.name_to_value
        row = {"step": self.num_timesteps, "return": float(episode["r"]), "length": int(episode["l"])}
        row |= {name: float(logged[key]) for name, key in _LOGGED.items() if key in logged}
        self.rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


class Checkpointer(BaseCallback):
    """Saves the agent at regular steps.

    Args:
        folder: of the checkpoint.
        every: environment steps between two.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__()
        self._folder = folder
        self._every = every

    def _on_step(self) -> bool:
        if self.num_timesteps % self._every == 0:
            save_agent(self.model, self._folder)  # type: ignore[arg-type]
        return True


class StepWatch(BaseCallback):
    """Moves the progress bar, says which update runs, and ends training when a stop was asked for.

    Args:
        progress: bar, or lines where there is no terminal.
        rows: of the recorder, for the state beside the bar.
        stop: asked at each step.
    """

    def __init__(self, progress: Progress, rows: list[dict[str, float]], stop: Callable[[], bool]) -> None:
        super().__init__()
        self._progress = progress
        self._rows = rows
        self._stop = stop
        self._engine: str | None = None

    def _on_step(self) -> bool:
        self._progress.advance(self.num_timesteps, self._rows[-WINDOW:])
        status = getattr(self.model, "engine_status", None)
        if status != self._engine:
            self._engine = status
            self._progress.note(f"engine: {status}")
        return not self._stop()
