"""What an agent has learned, weights, optimisers and controller, out of a checkpoint folder; without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entroreg import checkpoint
from entroreg.agents.discrete_sac import DiscreteSAC
from entroreg.agents.sac import SAC
from entroreg.state_tree import join_state


def load_agent(agent: SAC | DiscreteSAC, folder: str | Path) -> None:
    """Load what was learned, for prediction, from a checkpoint into an agent that was built with the same settings.

    Args:
        agent: built as the saved one was; changed in place.
        folder: of a ``TrainingCheckpoint``.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: the files are damaged.
        UnfitCheckpointError: the checkpoint is of another agent, or its contents do not fit.
    """
    tensors, metadata = checkpoint.load_checkpoint(folder, device=str(agent.device))
    with checkpoint.refusing_unfit(folder):
        require_same_agent(agent, metadata, folder)
        # The first checkpoints held nothing but the learned state.
        tree = metadata["training"]["learned"] if "training" in metadata else metadata["state"]
        load_learned_state(agent, join_state(tensors, tree))
        agent.num_timesteps = int(metadata["num_timesteps"])
        agent._n_updates = int(metadata["n_updates"])
        if metadata.get("engine_starts") is not None:  # absent before there was an engine
            agent.engine_starts = int(metadata["engine_starts"])


def metadata_of(agent: SAC | DiscreteSAC) -> dict[str, Any]:
    """Return what a checkpoint says of an agent besides its state."""
    return {
        "agent": type(agent).__name__,
        "num_timesteps": agent.num_timesteps,
        "n_updates": agent._n_updates,
        "engine_starts": agent.engine_starts,
    }


def require_same_agent(agent: SAC | DiscreteSAC, metadata: dict[str, Any], folder: str | Path) -> None:
    """Refuse a checkpoint of an agent of another class; ValueError."""
    if metadata.get("agent") != type(agent).__name__:
        raise ValueError(f"{folder} holds a {metadata.get('agent')}, expected a {type(agent).__name__}")


def learned_state(agent: SAC | DiscreteSAC) -> dict[str, Any]:
    """Return networks, optimisers and controller of an agent, as a tree of tensors."""
    return {
        "policy": agent.policy.state_dict(),
        "actor_optimizer": agent.actor.optimizer.state_dict(),
        "critic_optimizer": agent.critic.optimizer.state_dict(),
        "controller": agent.require_controller().state_dict(),
    }


def load_learned_state(agent: SAC | DiscreteSAC, state: dict[str, Any]) -> None:
    """Load what ``learned_state`` gave into an agent of the same settings; ValueError where it does not fit."""
    try:
        agent.policy.load_state_dict(state["policy"])
    except RuntimeError as error:
        raise ValueError(f"the saved networks do not fit this agent: {error}") from error
    agent.actor.optimizer.load_state_dict(state["actor_optimizer"])
    agent.critic.optimizer.load_state_dict(state["critic_optimizer"])
    agent.require_controller().load_state_dict(state["controller"])
    agent.sync_ent_coef()
