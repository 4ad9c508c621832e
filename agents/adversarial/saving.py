"""A training as one checkpoint folder: both players, their memories and the curriculum; it goes on exactly."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entroreg import checkpoint
from entroreg.agents.adversarial.curricula import (
    ConstantTemperature,
    Curriculum,
    LinearTemperature,
    PointCurriculum,
)
from entroreg.agents.adversarial.first_form import from_first_form
from entroreg.agents.adversarial.players import PlayerSettings
from entroreg.agents.agent_checkpoint import learned_state, load_learned_state
from entroreg.agents.replay_tables import ReplayTables
from entroreg.agents.sac import SAC
from entroreg.checkpoint import Table
from entroreg.curriculum import GammaCurriculum
from entroreg.envs import ActionShare, Forces
from entroreg.state_tree import join_state, split_state

if TYPE_CHECKING:
    from entroreg.agents.adversarial.two_players import TwoPlayers

_CURRICULA: dict[type[Any], tuple[str, ...]] = {
    ConstantTemperature: ("temperature",),
    GammaCurriculum: ("return_floor", "target_shape", "rate", "max_kl", "samples"),
    LinearTemperature: ("episodes", "start", "end"),
    PointCurriculum: ("return_floor", "target", "max_squared_step", "samples"),
}
_COUNTERS = ("num_timesteps", "_n_updates", "engine_starts")  # that a player learns by
_PLACES = ("pos", "full", "added")  # of a memory, those that its kind has


def save_players(agent: TwoPlayers, folder: str | Path, *, keep: int = 1) -> None:
    """Write a training between two iterations as an atomic checkpoint; of the memories only what changed.

    Args:
        agent: the training.
        folder: of the checkpoint.
        keep: older checkpoints that stay beside it, at least 1.

    Raises:
        OSError: the folder cannot be written; the checkpoint that was there stays.
    """
    tensors, tree = split_state(training_state(agent))
    metadata = {"arguments": _arguments(agent), "state": tree}
    tables = _named({name: memory.tables() for name, memory in memories_of(agent).items()})
    checkpoint.save_checkpoint(folder, tensors, metadata, tables=tables, keep=keep)


def training_state(agent: TwoPlayers) -> dict[str, Any]:
    """Return all that a training goes on from between two iterations, but for the rows of the players' memories."""
    return {
        **{name: _player_state(player) for name, player in _players(agent).items()},
        "curriculum": agent.curriculum.state_dict(),
        "num_timesteps": agent.num_timesteps,
        "iterations": agent.iterations,
    }


def load_training_state(agent: TwoPlayers, state: dict[str, Any]) -> None:
    """Put what ``training_state`` gave into a training of the same arguments, with the memories' rows in place.

    Raises:
        ValueError: the networks or the curriculum do not fit.
    """
    for name, player in _players(agent).items():
        _load_player_state(player, state[name])
    agent.curriculum.load_state_dict(state["curriculum"])
    agent.num_timesteps, agent.iterations = state["num_timesteps"], state["iterations"]


def read_arguments(folder: str | Path) -> dict[str, Any]:
    """Return the constructor's arguments that a checkpoint names; task or curriculum is None if it was code.

    Raises:
        CheckpointError: the files are damaged, or hold something else.
        UnfitCheckpointError: they name no such arguments.
    """
    _, metadata = checkpoint.load_checkpoint(folder)
    if "arguments" not in metadata:
        raise checkpoint.CheckpointError(f"{folder} holds no adversarial training: its metadata names no arguments")
    with checkpoint.refusing_unfit(folder):
        saved = dict(metadata["arguments"])
        settings = {
            name: PlayerSettings(**{**given, "net": tuple(given["net"])})
            for name, given in saved["settings"].items()
        }
        rest = {name: saved[name] for name in ("task", "episodes", "episode_steps", "scales_force", "seed")}
        forces, curriculum = _forces(saved["forces"]), _curriculum(saved["curriculum"])
        return {**rest, **settings, "forces": forces, "curriculum": curriculum}


def load_players(agent: TwoPlayers, folder: str | Path) -> None:
    """Load a checkpoint into a training that was built with its arguments.

    Raises:
        CheckpointError: the files are damaged.
        UnfitCheckpointError: the networks, the memories or the curriculum do not fit.
    """
    tensors, metadata = checkpoint.load_checkpoint(folder)
    with checkpoint.refusing_unfit(folder):
        if "counters" in metadata:
            load_training_state(agent, from_first_form(agent, tensors, metadata))
            return
        tables = _named({name: memory.empty() for name, memory in memories_of(agent).items()})
        tensors, metadata = checkpoint.load_checkpoint(folder, tables=tables)
        load_training_state(agent, join_state(tensors, metadata["state"]))


def _players(agent: TwoPlayers) -> dict[str, SAC]:
    return {"protagonist": agent.protagonist, "adversary": agent.adversary}


def _player_state(player: SAC) -> dict[str, Any]:
    counters = {name: getattr(player, name) for name in _COUNTERS}
    memory = {name: getattr(player.replay_buffer, name) for name in _PLACES if hasattr(player.replay_buffer, name)}
    watch = player.entropy_watch.state_dict()
    return {**learned_state(player), "counters": counters, "memory": memory, "entropy_watch": watch}


def _load_player_state(player: SAC, state: dict[str, Any]) -> None:
    load_learned_state(player, state)
    player.refresh_actor()
    for name, value in state["counters"].items():
        setattr(player, name, value)
    for name, value in state["memory"].items():
        setattr(player.replay_buffer, name, value)
    player.entropy_watch.load_state_dict(state["entropy_watch"])


def _named(tables: dict[str, dict[str, Table]]) -> dict[str, Table]:
    return {f"{player}.{name}": table for player, own in tables.items() for name, table in own.items()}


def memories_of(agent: TwoPlayers) -> dict[str, ReplayTables]:
    """Return the players' memories as tables, the same ones each time: they know what is on disk already."""
    for name, player in _players(agent).items():
        if name not in agent.memories or agent.memories[name].buffer is not player.replay_buffer:
            assert player.replay_buffer is not None
            agent.memories[name] = ReplayTables(player.replay_buffer)
    return agent.memories


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
