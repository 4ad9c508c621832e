"""Checkpoints of the first form, which had the players' memories among the tensors, read as those of today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from entroreg.state_tree import join_state

if TYPE_CHECKING:
    from entroreg.agents.adversarial.two_players import TwoPlayers

_ROWS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def from_first_form(agent: TwoPlayers, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> dict[str, Any]:
    """Fill the memories of a training, and return the rest of its state in today's form.

    Args:
        agent: built with the checkpoint's arguments.
        tensors: of the checkpoint.
        metadata: of the checkpoint.
    """
    state = join_state(tensors, metadata["state"])
    for name, player in (("protagonist", agent.protagonist), ("adversary", agent.adversary)):
        saved, buffer = state[name].pop("replay"), player.replay_buffer
        for part in _ROWS:
            getattr(buffer, part)[: len(saved[part])] = saved[part].numpy()
        places = {"pos": saved["pos"], "full": saved["full"]}
        if hasattr(buffer, "added"):
            places["added"] = len(saved["rewards"])
        state[name] |= {"memory": places, "counters": metadata["counters"][name]}
        state[name]["entropy_watch"] = player.entropy_watch.state_dict()  # nobody watched entropy then
    return {**state, **{name: metadata[name] for name in ("num_timesteps", "iterations")}}
