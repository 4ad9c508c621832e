"""An agent's training as it is written into its run folder, from the first step or from a checkpoint on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from entroreg.agents import SAC, DiscreteSAC, ResumableTraining
from entroreg.agents.agent_checkpoint import load_agent
from entroreg.benchmarks.errors import RUN_FAILED, UserError
from entroreg.benchmarks.monitor import EpisodeRecorder
from entroreg.benchmarks.options import RunOptions
from entroreg.benchmarks.row_file import METRICS, RowFile
from entroreg.benchmarks.run_folder import CHECKPOINT
from entroreg.checkpoint import load_checkpoint, refusing_unfit
from entroreg.envs.saving import CannotSaveError, WithinEpisodeError


class Recording:
    """A training on its way into a folder.

    Args:
        agent: that is trained.
        folder: of the run.
        run: how often is saved, and how many checkpoints are kept.
        rows: of the episodes.
        begin: checkpoint that it goes on from, with its notes; None at the beginning.
        stop: asked between rollouts; True saves and ends.
        together: seeds of the population that the agent is trained in; None alone.

    Attributes:
        rows: a row for each episode so far.
        callbacks: to train with.
    """

    def __init__(
        self,
        agent: SAC | DiscreteSAC,
        folder: Path,
        run: RunOptions,
        rows: RowFile,
        begin: tuple[Path, dict[str, Any]] | None,
        stop: Callable[[], bool],
        together: Sequence[int] | None,
    ) -> None:
        self._agent, self._folder, self._rows = agent, folder, rows
        self._together = None if together is None else list(together)
        self._earlier_seconds = 0.0 if begin is None else begin[1]["seconds"]
        self._begun = time.perf_counter()
        self.rows: list[dict[str, Any]] = rows.rows
        self._resumable = ResumableTraining(
            folder / CHECKPOINT,
            run.checkpoint_every,
            keep=run.keep,
            resume_from=None if begin is None else begin[0],
            stop=stop,
            notes=self._notes,
        )
        # After a stop the step that was under way is done again, and so is its row, which no checkpoint counts.
        self.callbacks: list[BaseCallback] = [self._resumable, EpisodeRecorder(rows)]

    @property
    def stopped(self) -> bool:
        """Whether the training was left before its end."""
        return self._resumable.stopping

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a stop included."""
        return self._earlier_seconds + time.perf_counter() - self._begun

    def finish(self) -> None:
        """Save the trained agent, as a zip and as a checkpoint."""
        self._agent.logger.dump(self._agent.num_timesteps)  # what is left since the last one
        # Before the checkpoint: once that says that the training has ended, nobody comes back here.
        self._agent.save(self._folder / "model.zip")
        try:
            self._resumable.checkpoint.save(self._notes())
        except WithinEpisodeError:
            self._resumable.checkpoint.save_learned(self._notes())

    def _notes(self) -> dict[str, Any]:
        self._rows.sync()
        return {"rows": len(self.rows), "seconds": self.seconds, "together": self._together}


@contextmanager
def recording(
    agent: SAC | DiscreteSAC,
    run: RunOptions,
    folder: Path,
    begin: Path | None,
    stop: Callable[[], bool],
    together: Sequence[int] | None = None,
) -> Iterator[Recording]:
    """Log an agent's training into its run folder inside the block.

    Args:
        agent: to be trained inside the block.
        run: of the agent.
        folder: of the run.
        begin: checkpoint that it goes on from, or None.
        stop: asked between rollouts.
        together: seeds of the population that the agent is trained in; None alone.

    Yields:
        The recording.

    Raises:
        UserError: the checkpoint is of an agent that was trained otherwise, or the environment cannot be saved.
    """
    notes = None if begin is None else (begin, require_as_before(begin, together))
    agent.set_logger(Logger(str(folder), [TensorBoardOutputFormat(str(folder / "tb"))]))
    try:
        with RowFile(folder / METRICS, kept=0 if notes is None else notes[1]["rows"]) as rows:
            yield Recording(agent, folder, run, rows, notes, stop, together)
    except CannotSaveError as error:  # it could when it was tried
        raise UserError(f"the training must be one that can be saved to go on: {error}", RUN_FAILED) from error
    finally:
        agent.logger.close()


def trained_before(agent: SAC | DiscreteSAC, folder: Path, steps: int) -> tuple[list[dict[str, Any]], float] | None:
    """Load an agent whose training was finished before the run was stopped.

    Args:
        agent: as it was built; it gets what it had learned.
        folder: of the run.
        steps: that its training has.

    Returns:
        The rows of its episodes and the seconds of training; None where it was not finished, or not begun.
    """
    checkpoint = folder / CHECKPOINT
    found = steps_of(checkpoint)
    if found is None or found < steps:  # more where a rollout has several steps
        return None
    load_agent(agent, checkpoint)
    notes = notes_of(checkpoint)
    with RowFile(folder / METRICS, kept=notes["rows"]) as rows:
        return rows.rows, notes["seconds"]


def steps_of(checkpoint: Path) -> int | None:
    """Return the environment steps of a checkpoint, None where there is none."""
    try:
        metadata = load_checkpoint(checkpoint)[1]
    except FileNotFoundError:
        return None
    with refusing_unfit(checkpoint):
        return int(metadata["num_timesteps"])


def notes_of(checkpoint: Path) -> dict[str, Any]:
    """Return what a recording noted in a checkpoint.

    Raises:
        UserError: it is of an entroreg that saved no training, only what was learned.
    """
    metadata = load_checkpoint(checkpoint)[1]
    if "training" not in metadata:
        raise UserError(
            f"{checkpoint} holds an agent for prediction only, of an earlier entroreg: evaluate it, or begin "
            "anew with --overwrite"
        )
    with refusing_unfit(checkpoint):
        notes = metadata["notes"]
        return {"rows": int(notes["rows"]), "seconds": float(notes["seconds"]), "together": notes["together"]}


def require_as_before(checkpoint: Path, together: Sequence[int] | None) -> dict[str, Any]:
    """Refuse to go on alone with an agent of a population, or the other way: sums would round otherwise.

    Args:
        checkpoint: to go on from.
        together: seeds of the population that the agent is to be trained in; None alone.

    Returns:
        What was noted in the checkpoint.

    Raises:
        UserError: it is of an agent that was trained otherwise.
    """
    notes = notes_of(checkpoint)
    before: list[int] | None = notes["together"]
    if before == (None if together is None else list(together)):
        return notes
    if before is None:
        raise UserError(f"{checkpoint} is of an agent that was trained alone: go on without --population")
    raise UserError(
        f"{checkpoint} is of the seeds {', '.join(map(str, before))} trained together: go on with 'entroreg train "
        f"sac' and its options, --population --seed {before[0]} --seeds {len(before)} --resume"
    )
