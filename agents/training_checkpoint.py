"""A training as a checkpoint folder, from which it goes on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entroreg import checkpoint
from entroreg.agents.agent_checkpoint import learned_state, metadata_of, require_same_agent
from entroreg.agents.discrete_sac import DiscreteSAC
from entroreg.agents.replay_tables import ReplayTables
from entroreg.agents.sac import SAC
from entroreg.agents.training_state import load_training_state, training_state
from entroreg.state_tree import join_state, split_state


class TrainingCheckpoint:
    """The checkpoint folder of an agent's training: all that it goes on from, environment and randomness included.

    ``load_agent`` reads it too, for prediction. Of the replay buffer only what changed since the last save is
    written. Save and load between two rollouts, as ``ResumableTraining`` does.

    Args:
        agent: SAC or DiscreteSAC.
        folder: of the checkpoint.
        keep: older checkpoints that stay beside it, at least 1.

    Raises:
        TypeError: the agent is another one, such as Stable-Baselines3's own.
        ValueError: it has no environment.
    """

    def __init__(self, agent: SAC | DiscreteSAC, folder: str | Path, keep: int = 1) -> None:
        _require_ours(agent)
        if agent.env is None:
            raise ValueError("the agent must have an environment to be trained in, got none: use set_env")
        self._agent, self._folder, self._keep = agent, Path(folder), keep
        self._replay: ReplayTables | None = None

    def save(self, notes: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint; the one before is kept.

        Args:
            notes: plain data of the caller, which ``load`` returns.

        Raises:
            RuntimeError: training has not begun.
            CannotSaveError: the environment's state cannot be seen, or not in the middle of an episode.
            FloatingPointError: what was learned became NaN or infinite; the checkpoint that was there stays.
            OSError: the folder cannot be written; the checkpoint that was there stays.
        """
        replay = self._tables_of_buffer()
        self._write(training_state(self._agent, replay), notes, replay.tables())

    def save_learned(self, notes: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint of a training that has ended, from which nobody goes on; the one before is kept.

        Args:
            notes: plain data of the caller.

        Raises:
            FloatingPointError: what was learned became NaN or infinite; the checkpoint that was there stays.
            OSError: the folder cannot be written; the checkpoint that was there stays.
        """
        self._agent.require_finite_state()
        self._write({"learned": learned_state(self._agent)}, notes, {})

    def require_savable(self) -> None:
        """Refuse a training that ``save`` would refuse; it is not written."""
        training_state(self._agent, self._tables_of_buffer())

    def load(self, folder: str | Path | None = None) -> dict[str, Any]:
        """Bring the agent, its environment and the process's random generators to where they were saved.

        Args:
            folder: of another checkpoint of the training, such as an older one; its own if left out.

        Returns:
            The notes.

        Raises:
            RuntimeError: training has not begun, and would begin anew after this.
            FileNotFoundError: there is no checkpoint.
            CheckpointError: the files are damaged.
            UnfitCheckpointError: the checkpoint is of another agent or environment, or holds no training.
        """
        source = self._folder if folder is None else Path(folder)
        replay = self._tables_of_buffer()
        _, metadata = checkpoint.load_checkpoint(source)
        with checkpoint.refusing_unfit(source):
            require_same_agent(self._agent, metadata, source)
            if "environment" not in metadata.get("training", ()):
                raise ValueError(f"it holds a {metadata['agent']} for prediction only: train it again")
            tensors, metadata = checkpoint.load_checkpoint(source, tables=replay.empty())
            load_training_state(self._agent, replay, join_state(tensors, metadata["training"]))
            return dict(metadata["notes"])

    def _write(
        self, state: dict[str, Any], notes: Mapping[str, Any] | None, tables: Mapping[str, checkpoint.Table]
    ) -> None:
        tensors, tree = split_state(state)
        metadata = {**metadata_of(self._agent), "training": tree, "notes": dict(notes or {})}
        checkpoint.save_checkpoint(self._folder, tensors, metadata, tables=tables, keep=self._keep)

    def _tables_of_buffer(self) -> ReplayTables:
        if self._agent._last_obs is None:
            raise RuntimeError(
                "the agent must be in learn to be saved or loaded, got one that has not begun: pass "
                "ResumableTraining to learn"
            )
        buffer: Any = self._agent.replay_buffer
        if self._replay is None or self._replay.buffer is not buffer:
            self._replay = ReplayTables(buffer)
        return self._replay


def _require_ours(agent: Any) -> None:
    if not isinstance(agent, SAC | DiscreteSAC):
        found = f"{type(agent).__module__}.{type(agent).__name__}"
        raise TypeError(f"agent must be entroreg's SAC or DiscreteSAC, got {found}")
