"""Agents as checkpoint folders: weights, optimisers and controller, without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entroreg import checkpoint
from entroreg.agents.discrete_sac import DiscreteSAC
from entroreg.agents.sac import SAC
from entroreg.state_tree import join_state, split_state


def save_agent(agent: SAC | DiscreteSAC, folder: str | Path) -> None:
    """Write an agent's learned state as an atomic checkpoint.

    The replay buffer, the environment and the random streams are not in it: it serves prediction, and training that
    goes on from these weights with new data.

    Args:
        agent: the agent.
        folder: of the checkpoint; the one before is kept beside it.

    Raises:
        OSError: the folder cannot be written; the checkpoint that was there stays.
    """
    tensors, tree = split_state(learned_state(agent))
    metadata = {
        "agent": type(agent).__name__,
        "num_timesteps": agent.num_timesteps,
        "n_updates": agent._n_updates,
        "engine_starts": getattr(agent, "engine_starts", None),
        "state": tree,
    }
    checkpoint.save_checkpoint(folder, tensors, metadata)


def load_agent(agent: SAC | DiscreteSAC, folder: str | Path) -> None:
    """Load a checkpoint into an agent that was built with the same settings.

    Args:
        agent: built as the saved one was; changed in place.
        folder: of the checkpoint.

    Raises:
        CheckpointError: the files are damaged.
        ValueError: the checkpoint is of another agent, or its tensors do not fit.
    """
    tensors, metadata = checkpoint.load_checkpoint(folder, device=str(agent.device))
    if metadata["agent"] != type(agent).__name__:
        raise ValueError(f"{folder} holds a {metadata['agent']}, expected a {type(agent).__name__}")
    load_learned_state(agent, join_state(tensors, metadata["state"]))
    agent.num_timesteps = metadata["num_timesteps"]
    agent._n_updates = metadata["n_updates"]
    if isinstance(agent, SAC) and metadata.get("engine_starts") is not None:  # absent before there was an engine
        agent.engine_starts = metadata["engine_starts"]


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
