"""Callbacks of a training run, each for one thing; Stable-Baselines3 calls them at every step boundary."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from entroreg.benchmarks.curves import WINDOW
from entroreg.benchmarks.progress import Progress
from entroreg.benchmarks.row_file import RowFile

_LOGGED = {
    "alpha": "train/ent_coef",
    "entropy": "train/entropy",
    "target_entropy": "train/target_entropy",
    "critic_loss": "train/critic_loss",
    "actor_loss": "train/actor_loss",
}


class EpisodeRecorder(BaseCallback):
    """Writes a row for each episode: step, return, length and, once training has begun, the agent's last metrics.

    Args:
        rows: where they go.
    """

    def __init__(self, rows: RowFile) -> None:
        super().__init__()
        self._rows = rows

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self._write(info["episode"])
        return True

    def _write(self, episode: dict[str, Any]) -> None:
        logged = self.model.logger.name_to_value
        row = {"step": self.num_timesteps, "return": float(episode["r"]), "length": int(episode["l"])}
        row |= {name: float(logged[key]) for name, key in _LOGGED.items() if key in logged}
        self._rows.write(row)


class StepWatch(BaseCallback):
    """Moves the progress bar, and says which update runs.

    Args:
        progress: bar, or lines where there is no terminal.
        rows: of the recorder, for the state beside the bar.
    """

    def __init__(self, progress: Progress, rows: list[dict[str, float]]) -> None:
        super().__init__()
        self._progress = progress
        self._rows = rows
        self._engine: str | None = None

    def _on_step(self) -> bool:
        self._progress.advance(self.num_timesteps, self._rows[-WINDOW:])
        status = getattr(self.model, "engine_status", None)
        if status != self._engine:
            self._engine = status
            self._progress.note(f"engine: {status}")
        return True
