"""An agent through a checkpoint folder: the same agent, and the same names for its coefficient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entroreg import Dual, Scheduled, checkpoint
from entroreg.agents import SAC, DiscreteSAC
from entroreg.agents.agent_checkpoint import load_agent
from entroreg.agents.training_checkpoint import TrainingCheckpoint
from entroreg.schedules import LinearSchedule

FALLING = LinearSchedule(-1.0, -2.0, steps=100)


@pytest.mark.parametrize(
    "make_ent_coef",
    [lambda: "auto", lambda: Dual(FALLING, maximum=2.0), lambda: Scheduled(LinearSchedule(1.0, 0.0, steps=100))],
    ids=["auto", "Dual", "Scheduled"],
)
def test_the_whole_learned_state_comes_back(
    build: Callable[..., Any],
    differences: Callable[[Any, Any], dict[str, float]],
    make_ent_coef: Callable[[], Any],
    tmp_path: Path,
) -> None:
    agent = build(SAC, ent_coef=make_ent_coef()).learn(60)
    agent.engine_starts = 77
    TrainingCheckpoint(agent, tmp_path / "last").save()
    other = build(SAC, ent_coef=make_ent_coef(), seed=1)
    load_agent(other, tmp_path / "last")
    assert set(differences(agent, other).values()) == {0.0}
    assert (other.num_timesteps, other._n_updates, other.engine_starts) == (60, 40, 77)
    assert other.target_entropy == agent.target_entropy
    assert other.ent_coef == agent.ent_coef


def test_what_does_not_fit_is_refused(build: Callable[..., Any], tmp_path: Path) -> None:
    agent = build(SAC).learn(1)
    TrainingCheckpoint(agent, tmp_path / "last").save()
    with pytest.raises(ValueError, match="do not fit this agent"):
        load_agent(build(SAC, policy_kwargs={"net_arch": [8]}), tmp_path / "last")
    with pytest.raises(ValueError, match="holds a SAC, expected a DiscreteSAC"):
        load_agent(build(DiscreteSAC, "CartPole-v1"), tmp_path / "last")
    saved, metadata = checkpoint.load_checkpoint(tmp_path / "last")
    for change in ({"training": None}, {"training": {"learned": {"policy": 3}}}, {"num_timesteps": "many"}):
        checkpoint.save_checkpoint(tmp_path / "forged", saved, {**metadata, **change})
        with pytest.raises(checkpoint.UnfitCheckpointError, match="forged does not fit what it is loaded into: "):
            load_agent(build(SAC), tmp_path / "forged")
    tensors = tmp_path / "last" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(checkpoint.CheckpointError):
        load_agent(agent, tmp_path / "last")
