"""What a run with verifiable rewards goes on from: the state of its warm-up, or of its rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from entroreg import checkpoint
from entroreg.agents.rlvr.grpo import GRPO
from entroreg.agents.rlvr.warm_up import WarmingUp, WarmUp
from entroreg.benchmarks.errors import MISSING, UserError
from entroreg.benchmarks.run_folder import CHECKPOINT, saved_run
from entroreg.state_tree import join_state, split_state

_AGENT = "rlvr"
_WARM_UP, _ROLLOUTS = "warm-up", "rollouts"


class Rollouts(NamedTuple):
    """How far a run is that has begun with rollouts.

    Attributes:
        warmed: how its warm-up ended.
        before: pass@k and entropy of the policy before the first rollout, by name.
        state: of the trainer; None before the first rollout.
        rows: in metrics.jsonl.
        seconds: of the rollouts.
    """

    warmed: WarmUp
    before: dict[str, float]
    state: dict[str, Any] | None = None
    rows: int = 0
    seconds: float = 0.0


def save_warm_up(warming: WarmingUp, folder: Path, *, keep: int) -> None:
    """Write a warm-up as the atomic checkpoint of a run's folder; ``keep`` older ones stay beside it."""
    tensors, tree = split_state(warming.state_dict())
    metadata = {"agent": _AGENT, "phase": _WARM_UP, "state": tree}
    checkpoint.save_checkpoint(folder / CHECKPOINT, tensors, metadata, keep=keep)


def save_rollouts(trainer: GRPO, run: Rollouts, folder: Path, *, keep: int) -> None:
    """Write everything that the next rollout depends on as the atomic checkpoint of a run's folder."""
    tensors, tree = split_state(trainer.state_dict())
    facts = {"warmed": run.warmed._asdict(), "before": run.before, "rows": run.rows, "seconds": run.seconds}
    metadata = {"agent": _AGENT, "phase": _ROLLOUTS, "state": tree, **facts}
    checkpoint.save_checkpoint(folder / CHECKPOINT, tensors, metadata, keep=keep)


def load_run(folder: Path) -> Rollouts | dict[str, Any] | None:
    """Return how far a run is: in its rollouts, the state of its warm-up, or None where nothing is saved.

    Args:
        folder: of the run.

    Raises:
        UserError: the checkpoint is damaged, of something else, or was written before runs could go on.
        UnfitCheckpointError: it does not hold what a run saves.
    """
    saved = saved_run(folder, _AGENT)
    if saved is None:
        return None
    tensors, metadata = saved
    if metadata.get("phase") not in (_WARM_UP, _ROLLOUTS):
        raise UserError(
            f"{folder / CHECKPOINT} must say in which phase the run is, and says none: it is of an entroreg whose "
            "runs could not go on; train again with --overwrite",
            MISSING,
        )
    with checkpoint.refusing_unfit(folder / CHECKPOINT):
        state: dict[str, Any] = dict(join_state(tensors, metadata["state"]))
        if metadata["phase"] == _WARM_UP:
            return state
        warmed = WarmUp(**metadata["warmed"])
        return Rollouts(warmed, dict(metadata["before"]), state, int(metadata["rows"]), float(metadata["seconds"]))
