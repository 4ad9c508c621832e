"""States with anything changed in them: the documented error or other data, and an environment that still works."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from saving_holding import everything, hopper, integers_of, mujoco_beneath, navigation, nodes
from saving_oracle import differences, through_json

from entroreg.envs.saving import environment_state, load_environment_state

JUNK: tuple[Any, ...] = (
    *(None, True, -1, 3, 2**70, 1e308, float("nan"), "", "x", "__class__", b"\0", [], {}, (), [1], [[1, 2]]),
    *(np.zeros(0), np.ones(3), np.ones((2, 2), np.float32), np.arange(5), np.array(2.0), np.zeros(3, bool)),
    *({"kind": "seen", "of": 0}, {"kind": "list", "items": []}, {"kind": "dict", "items": []}, torch.ones(2)),
)


def _mutate(tree: Any, rng: random.Random) -> None:
    """Change something anywhere in a tree."""
    inner = [node for node in nodes(tree) if isinstance(node, dict | list) and node]
    node = rng.choice(inner)
    name = rng.choice([*node] if isinstance(node, dict) else range(len(node)))
    action = rng.randrange(5)
    if action == 0:
        del node[name]
    elif action == 1:
        node[name] = copy.deepcopy(rng.choice(inner))
    elif action == 2 and isinstance(node[name], np.ndarray) and node[name].size:
        node[name].reshape(-1)[rng.randrange(node[name].size)] = rng.choice([0, 1, 100])
    elif action == 3 and isinstance(node, dict) and "kind" in node:
        node["kind"] = rng.choice([one["kind"] for one in inner if isinstance(one, dict) and "kind" in one])
    else:
        node[name] = copy.deepcopy(rng.choice(JUNK))


def _fuzz(make: Callable[[], Any], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    env, rng, refused = make(), random.Random(0), 0
    good = through_json(environment_state(env))
    before = _compiled(env)
    for _ in range(count):
        env = make() if make is navigation else env  # whose map decides which states are of its form
        state = copy.deepcopy(good)
        for _ in range(rng.choice((1, 1, 2, 5))):
            _mutate(state, rng)
        try:
            load_environment_state(env, state)
        except ValueError:
            refused += 1
        if before:
            mujoco.mj_step(*mujoco_beneath(env))
        assert _compiled(env) == before
        assert not {"step", "reset", "walk", "run", "__class__"} & vars(env.unwrapped).keys()
        if make is not navigation:
            load_environment_state(env, good)  # objects, functions and classes are where they were
            assert differences(good, environment_state(env)) == {}
    with capsys.disabled():
        print(f"\n{make.__name__}: {count} mutated states, {refused} refused, the rest changed data", end="")
    assert count // 4 < refused < count


def _compiled(env: Any) -> dict[str, bytes]:
    """Return the integers of a model, but for those that follow from where a map has its obstacles."""
    return {
        name: value for name, value in integers_of(env).items() if name.startswith("MjModel") and "bvh" not in name
    }


@pytest.mark.parametrize("make", [everything, hopper, navigation])
def test_mutated_states(
    make: Callable[[], Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for MuJoCo's log of warnings
    _fuzz(make, 50, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("make", [everything, hopper, navigation])
def test_many_mutated_states(
    make: Callable[[], Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _fuzz(make, 4000, capsys)
