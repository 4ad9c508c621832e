"""The comparison of tests/envs/test_saving.py notices every field of a state that is not given back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from saving_oracle import actions_of, advance, differences, future, leaves, of_leaves, reset, saved_at, through_json
from stable_baselines3.common.monitor import Monitor

from entroreg.envs.saving import environment_state, load_environment_state

# MuJoCo's own list of what a simulation goes on from.
INTEGRATION = ("time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl", "qfrc_applied", "xfrc_applied", "eq_active")
# What no later step depends on, but for MuJoCo's derived arrays, which the next step computes anew. They are saved
# because a task may read any of them before it steps on, as Ant-v5 reads xpos.
EXPLAINED = {
    "data.ctrl": "the action before; each step writes its own first",
    ".episode_times": "seconds; the one field that a comparison of two runs has to leave out",
}
READ = {"Ant-v5": {"data.xpos"}, "Humanoid-v5": {"data.xipos"}}  # by the task before it steps on
STEPS = 44  # with the end of the episode before the reset half way
ALWAYS = {
    *(".env._elapsed_steps", ".env.env.env.env._np_random", ".env.env.env.env.action_space._np_random"),
    *(".rewards", ".total_steps", "data.time", "data.qpos", "data.qvel", "data.qacc_warmstart"),
}
WERE_ZERO = ("opt.wind", "geom_margin", "jnt_stiffness", "dof_frictionloss")
CHANGED = (
    *("body_mass", "body_inertia", "body_ipos", "geom_friction", "geom_size", "geom_solref", "dof_damping"),
    *("dof_armature", "dof_invweight0", "body_invweight0", "actuator_gear", "actuator_ctrlrange", "jnt_range"),
    *("opt.gravity", "opt.timestep", "opt.density", "opt.viscosity", "opt.impratio", "stat.meaninertia"),
    *WERE_ZERO,
)

Drop = Callable[[Any, Any], None]
"""Puts a field of the second state into the first one."""


def _made(env_id: str) -> gym.Env[Any, Any]:
    return Monitor(gym.make(env_id, max_episode_steps=50, terminate_when_unhealthy=False))


def _attributes(
    saved: Any, fresh: Any, path: str = ""
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], str]]:
    """Yield each attribute of each object, but for objects themselves, with its owners in both states."""
    for name, node in saved["attributes"].items():
        if isinstance(node, dict) and node["kind"] == "object":
            yield from _attributes(node, fresh["attributes"][name], f"{path}.{name}")
        else:
            yield f"{path}.{name}", saved["attributes"], fresh["attributes"], name


def _places(node: dict[str, Any]) -> dict[str, tuple[str, slice]]:
    """Return where each of MuJoCo's arrays lies: name -> dtype and places."""
    found = {}
    for dtype, members in node["layout"].items():
        begin = 0
        for name in sorted(members):
            end = begin + int(np.prod(members[name], dtype=int))
            found[name] = dtype, slice(begin, end)
            begin = end
    return found


def _inner(state: Any) -> Any:
    while "data" not in state["attributes"]:
        state = state["attributes"]["env"]
    return state["attributes"]


def _fields(saved: Any, fresh: Any) -> Iterator[tuple[str, Drop]]:
    """Yield the fields that differ between the states of two environments, and how each is dropped."""
    for path, owner, other, name in _attributes(saved, fresh):
        if name not in ("model", "data") and (name not in other or repr(owner[name]) != repr(other[name])):
            yield path, partial(_drop_attribute, path=path)
    for part in ("model", "data"):
        node, other = _inner(saved)[part], _inner(fresh)[part]
        for name, (dtype, place) in _places(node).items():
            if (node["values"][dtype][place] != other["values"][dtype][place]).any():
                yield f"{part}.{name}", partial(_drop_numbers, part=part, dtype=dtype, place=place)


def _drop_attribute(saved: Any, fresh: Any, path: str) -> None:
    for found, owner, other, name in _attributes(saved, fresh):
        if found == path:
            owner[name] = other[name]
            return


def _drop_numbers(saved: Any, fresh: Any, part: str, dtype: str, place: slice) -> None:
    _inner(saved)[part]["values"][dtype][place] = _inner(fresh)[part]["values"][dtype][place]


class _Trial:
    """An environment in the middle of an episode, what comes after it, and a second one that gets its state."""

    def __init__(self, env_id: str, change: Callable[[Any], None] = lambda model: None) -> None:
        self.first, self.second = saved_at(partial(_made, env_id), 0), _made(env_id)
        change(self.first.unwrapped.model)
        for action in actions_of(self.first, 80, 3):
            advance(self.first, action)
        reset(self.second, 99)
        self.fresh = through_json(environment_state(self.second))
        self.saved = through_json(environment_state(self.first))

    @cached_property
    def future(self) -> dict[str, Any]:
        """What comes after the first one."""
        return leaves(future(self.first, STEPS))

    def noticed(self, drop: Drop) -> tuple[bool, bool]:
        """Whether a dropped field is noticed at once, in the complete state, and in what comes later."""
        _ = self.future
        state = copy.deepcopy(self.saved)
        drop(state, self.fresh)
        load_environment_state(self.second, state)
        at_once = bool(differences(self.saved, environment_state(self.second)))
        try:
            return at_once, bool(of_leaves(self.future, leaves(future(self.second, STEPS))))
        except TypeError:  # Gymnasium's checker misses what it noted
            return at_once, True


@pytest.mark.parametrize("env_id", ["Ant-v5", pytest.param("Humanoid-v5", marks=pytest.mark.slow)])
def test_every_field_is_noticed(env_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    trial = _Trial(env_id)
    assert trial.noticed(_nothing) == (False, False)
    found = {name: trial.noticed(drop) for name, drop in _fields(trial.saved, trial.fresh)}
    later = {name for name, noticed in found.items() if noticed[1]}
    alone = {name for name, noticed in found.items() if noticed == (True, False)}
    derived = {name for name in alone if name.startswith("data.") and name[5:] not in INTEGRATION}
    attributes = sum(1 for _ in _attributes(trial.saved, trial.fresh))
    alike = attributes - sum(name.startswith(".") for name in found)
    with capsys.disabled():
        print(
            f"\n{env_id}: {len(found)} fields dropped in turn: {len(later)} noticed in what comes, {len(alone)} in "
            f"the complete state alone ({len(derived)} of them MuJoCo's derived arrays), "
            f"{len(found) - len(later) - len(alone)} not; {alike} attributes are alike in a new environment",
            end="",
        )
    assert (alone - derived) | (found.keys() - later - alone) == EXPLAINED.keys()
    assert later >= READ[env_id] | ALWAYS


@pytest.mark.parametrize("env_id", READ)
def test_integration_state_alone_is_not_enough(env_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    trial = _Trial(env_id)
    assert trial.noticed(_drop_derived) == (True, True)
    action = np.zeros(trial.second.action_space.shape, np.float32)
    without = copy.deepcopy(trial.saved)
    _drop_derived(without, trial.fresh)
    rewards = []
    for state in (trial.saved, without):
        load_environment_state(trial.second, state)
        rewards.append(float(trial.second.step(action)[1]))
    gap = abs(rewards[0] - rewards[1])
    with capsys.disabled():
        print(f"\n{env_id} with MuJoCo's integration state alone: the next reward is off by {gap:.2f}", end="")
    assert gap > 0.5


def test_every_change_of_a_model_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    trial = _Trial("Ant-v5", _change)
    assert trial.noticed(_nothing) == (False, False)
    drops = [(name, drop) for name, drop in _fields(trial.saved, trial.fresh) if name.startswith("model.")]
    found = {name: trial.noticed(drop)[1] for name, drop in drops}
    with capsys.disabled():
        print(f"\nAnt-v5: {len(found)} changes of its model dropped in turn: {sum(found.values())} noticed", end="")
    assert found == dict.fromkeys((f"model.{name}" for name in CHANGED), True)


def _nothing(saved: Any, fresh: Any) -> None:
    """Drop nothing."""


def _drop_derived(saved: Any, fresh: Any) -> None:
    for name, (dtype, place) in _places(_inner(saved)["data"]).items():
        if name not in INTEGRATION:
            _drop_numbers(saved, fresh, "data", dtype, place)


def _change(model: Any) -> None:
    for name in CHANGED:
        part, _, member = name.rpartition(".")
        owner = getattr(model, part) if part else model
        number = getattr(owner, member)
        if isinstance(number, np.ndarray):
            number[...] = 1.1 * number + 0.01 * (name in WERE_ZERO)
        else:
            setattr(owner, member, 1.1 * number + 0.01)
