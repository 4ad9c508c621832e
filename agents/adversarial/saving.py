"""A training as one checkpoint folder: both players, their memories and the curriculum; it goes on exactly."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from entroreg import checkpoint
from entroreg.agents.adversarial.curricula import (
    ConstantTemperature,
    Curriculum,
    LinearTemperature,
    PointCurriculum,
)
from entroreg.agents.adversarial.players import PlayerSettings
from entroreg.agents.agent_checkpoint import learned_state, load_learned_state
from entroreg.agents.sac import SAC
from entroreg.curriculum import GammaCurriculum
from entroreg.envs import ActionShare, Forces
from entroreg.state_tree import join_state, split_state

if TYPE_CHECKING:
    from entroreg.agents.adversarial.two_players import TwoPlayers

_CURRICULA: dict[type[Any], tuple[str, ...]] = {
    ConstantTemperature: ("temperature",),
    GammaCurriculum: ("return_floor", "shape", "target_shape", "rate", "max_kl", "samples"),
    LinearTemperature: ("episodes", "start", "end"),
    PointCurriculum: ("return_floor", "temperature", "target", "max_squared_step", "samples"),
}
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "engine_starts")


def save_players(agent: TwoPlayers, folder: str | Path) -> None:
    """Write a training between two iterations as an atomic checkpoint.

    Args:
        agent: the training.
        folder: of the checkpoint; the one before is kept beside it.

    Raises:
        OSError: the folder cannot be written; the checkpoint that was there stays.
    """
    players = {"protagonist": agent.protagonist, "adversary": agent.adversary}
    state = {name: {**learned_state(player), "replay": _memory(player)} for name, player in players.items()}
    tensors, tree = split_state({**state, "curriculum": agent.curriculum.state_dict()})
    counters = {name: {key: getattr(player, key) for key in _COUNTERS} for name, player in players.items()}
    metadata = {
        "arguments": _arguments(agent),
        "counters": counters,
        "num_timesteps": agent.num_timesteps,
        "iterations": agent.iterations,
        "last_return": agent.last_return if agent.iterations else None,
        "state": tree,
    }
    checkpoint.save_checkpoint(folder, tensors, metadata)


def read_players(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    """Return the constructor's arguments, the tensors and the metadata of a checkpoint.

    Raises:
        CheckpointError: the files are damaged, or hold something else.
    """
    tensors, metadata = checkpoint.load_checkpoint(folder)
    if "arguments" not in metadata:
        raise checkpoint.CheckpointError(f"{folder} holds no adversarial training: its metadata names no arguments")
    saved = dict(metadata["arguments"])
    settings = {
        name: PlayerSettings(**{**given, "net": tuple(given["net"])}) for name, given in saved["settings"].items()
    }
    rest = {name: saved[name] for name in ("task", "episodes", "episode_steps", "scales_force", "seed")}
    return (
        {**rest, **settings, "forces": _forces(saved["forces"]), "curriculum": _curriculum(saved["curriculum"])},
        tensors,
        metadata,
    )


def load_players(agent: TwoPlayers, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Load a checkpoint into a training that was built with its arguments.

    Raises:
        ValueError: the networks or the curriculum do not fit.
    """
    state = join_state(tensors, metadata["state"])
    for name, player in (("protagonist", agent.protagonist), ("adversary", agent.adversary)):
        load_learned_state(player, state[name])
        _remember(player, state[name]["replay"])
        for key, value in metadata["counters"][name].items():
            setattr(player, key, value)
    agent.curriculum.load_state_dict(state["curriculum"])
    agent.num_timesteps, agent.iterations = metadata["num_timesteps"], metadata["iterations"]
    agent.last_return = float("nan") if metadata["last_return"] is None else metadata["last_return"]


def _arguments(agent: TwoPlayers) -> dict[str, Any]:
    known = _CURRICULA.get(type(agent.curriculum))
    return {
        "task": agent.task if isinstance(agent.task, str) else None,
        "curriculum": known
        and {
            "kind": type(agent.curriculum).__name__,
            **{name: getattr(agent.curriculum, name) for name in known},
        },
        "forces": asdict(agent.forces),
        "settings": {name: {**asdict(one), "net": list(one.net)} for name, one in agent.settings.items()},
        "episodes": agent.episodes,
        "episode_steps": agent.episode_steps,
        "scales_force": agent.scales_force,
        "seed": agent.seed,
    }


def _forces(saved: dict[str, Any]) -> Forces | ActionShare:
    if "share" in saved:
        return ActionShare(**saved)
    bodies = {body: tuple(axes) for body, axes in saved["bodies"].items()}
    region = saved["region"] and tuple(tuple(ends) for ends in saved["region"])
    return Forces(**{**saved, "bodies": bodies, "region": region})


def _curriculum(saved: dict[str, Any] | None) -> Curriculum | None:
    if saved is None:
        return None
    kinds = {kind.__name__: kind for kind in _CURRICULA}
    arguments = dict(saved)
    built: Curriculum = kinds[arguments.pop("kind")](**arguments)
    return built


def _memory(player: SAC) -> dict[str, Any]:
    buffer: Any = player.replay_buffer
    filled = buffer.size()
    arrays = {name: torch.from_numpy(np.array(getattr(buffer, name)[:filled])) for name in _REPLAY}
    return {**arrays, "pos": buffer.pos, "full": buffer.full}


def _remember(player: SAC, saved: dict[str, Any]) -> None:
    buffer: Any = player.replay_buffer
    for name in _REPLAY:
        getattr(buffer, name)[: len(saved[name])] = saved[name].cpu().numpy()
    buffer.pos, buffer.full = saved["pos"], saved["full"]
    if hasattr(buffer, "added"):  # what a GPU's copy is behind by
        buffer.added = len(saved["rewards"])
