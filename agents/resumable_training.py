"""A callback that makes a training one that can be stopped, or killed, and goes on exactly."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from entroreg import _checks
from entroreg.agents.training_checkpoint import TrainingCheckpoint
from entroreg.envs.saving import WithinEpisodeError

_PATIENCE = 3  # saves that may be missed before that is said


class ResumableTraining(BaseCallback):
    """Saves a training at regular steps and when it is to stop, and goes on from a checkpoint.

    Both happen between two rollouts, where nothing is half done; a rollout has ``train_freq`` steps. Environments
    in ``SeededEpisodes`` are saved at the first such moment where all are between two episodes; a stop does not
    wait for one, and the training goes on from the checkpoint before.

    What other callbacks keep, such as the best mean reward of an EvalCallback, is not saved: note it.

    Args:
        folder: of the checkpoint.
        every: environment steps between two.
        keep: older checkpoints that stay beside it, at least 1.
        resume_from: checkpoint to go on from when ``learn`` first begins; None to begin anew. Call ``learn`` with
            the same number of steps as at first: it is the number at the end. Of a training that has reached it
            nothing is changed.
        stop: asked between rollouts; True saves and ends.
        notes: called before each save; what it returns is saved with it.

    Attributes:
        stopping: whether a stop was asked for, so that the training has ended or is about to.
        notes_found: what was noted in the checkpoint that the training goes on from; empty before.

    Raises:
        ValueError: every or keep is below 1; when ``learn`` begins, as ``TrainingCheckpoint`` does.

    Example:
        >>> import tempfile
        >>> from entroreg.agents import SAC
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for begin in (None, f"{root}/last"):
        ...         agent = SAC("MlpPolicy", "Pendulum-v1", learning_starts=10, seed=0)
        ...         _ = agent.learn(20, callback=ResumableTraining(f"{root}/last", every=10, resume_from=begin))
        >>> agent.num_timesteps
        20
    """

    checkpoint: TrainingCheckpoint
    """Of the training, for a save after ``learn``; there once that has begun."""

    def __init__(
        self,
        folder: str | Path,
        every: int,
        *,
        keep: int = 1,
        resume_from: str | Path | None = None,
        stop: Callable[[], bool] = lambda: False,
        notes: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__()
        self._folder, self._resume_from = Path(folder), resume_from
        self._every = _checks.require_count("every", every)
        self._keep = _checks.require_count("keep", keep)
        self._stop, self._notes = stop, notes
        self._found: Path | None = None  # of a training that has nothing left to do
        self._saved_at: int | None = None
        self._told = False
        self.stopping = False
        self.notes_found: dict[str, Any] = {}

    def _init_callback(self) -> None:
        self.checkpoint = TrainingCheckpoint(self.model, self._folder, self._keep)  # type: ignore[arg-type]

    def _on_training_start(self) -> None:
        self._saved_at = None

    def _on_rollout_start(self) -> None:
        if self._saved_at is None:
            self._begin()
        stopping = self._stop()
        if stopping or self.num_timesteps // self._every > self._saved_at // self._every:  # type: ignore[operator]
            self._save()
        self.stopping = stopping

    def _on_step(self) -> bool:
        return not self.stopping and self._found is None

    def _on_training_end(self) -> None:
        if self._found is not None:  # Stable-Baselines3 takes a step before it asks whether to go on
            self.checkpoint.load(self._found)
            self._found = None

    def _begin(self) -> None:
        # Here and not before learn: whatever learn has done by now is replaced by what it had done then.
        if self._resume_from is not None:
            source, self._resume_from = Path(self._resume_from), None
            self.notes_found = self.checkpoint.load(source)
            self.num_timesteps = self.model.num_timesteps
            self._found = source if self.num_timesteps >= self.model._total_timesteps else None
        else:
            with contextlib.suppress(WithinEpisodeError):
                self.checkpoint.require_savable()  # now, and not when hours have been trained
        self._saved_at = self.num_timesteps

    def _save(self) -> None:
        if self._saved_at == self.num_timesteps and self.num_timesteps > 0:
            return
        try:
            self.checkpoint.save(self._notes())
        except WithinEpisodeError:
            self._tell_missed()
            return
        self._saved_at = self.num_timesteps

    def _tell_missed(self) -> None:
        since: int = self._saved_at  # type: ignore[assignment]
        if self.num_timesteps // self._every - since // self._every > _PATIENCE and not self._told:
            self._told = True
            warnings.warn(
                f"no checkpoint could be written since step {since}: environments in SeededEpisodes are saved "
                "where all are between two episodes: train in one environment, or save less often",
                stacklevel=2,
            )
