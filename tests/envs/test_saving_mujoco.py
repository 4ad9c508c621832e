"""MuJoCo gets finite floats of the right shapes from a state, and no integer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from saving_holding import hopper, integers_of, navigation, nodes
from saving_oracle import through_json

from entroreg.envs.saving import environment_state, load_environment_state

DAMAGED = r": the checkpoint is damaged$"


MUJOCO: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "more arrays": (
        lambda model, data: model["layout"]["<f8"].update(body_parentid=[5]),
        r"^env\S*\.model\.body_parentid must have dtype and shape \['<f8', 5\], as when it was saved, got None",
    ),
    "fewer arrays": (
        lambda model, data: data["layout"]["<f8"].pop("qpos"),
        r"^env\S*data\.qpos must have dtype and shape None, as when",
    ),
    "other shapes": (
        lambda model, data: data["layout"]["<f8"].update(qpos=[7]),
        r"^env\S*data\.qpos must have dtype and shape \['<f8', 7\]",
    ),
    "other dtypes": (
        lambda model, data: data["layout"].update({"<i4": {"dof_island": [6]}}),
        r"^env\S*data\.dof_island must have dtype and shape \['<i4', 6\], as when it was saved, got None",
    ),
    "no layout": (
        lambda model, data: data.update(layout={"<f8": 3}),
        r"must be a node with '<f8' \(dict\), got int",
    ),
    "fewer numbers": (
        lambda model, data: data["values"].update({"<f8": data["values"]["<f8"][:-1]}),
        r"must be a node whose '<f8' are numbers of shape \(\d+,\), got float64 of shape \(\d+,\)" + DAMAGED,
    ),
    "integers": (
        lambda model, data: data["values"].update({"<f8": data["values"]["<f8"].astype(np.int64)}),
        r"must be finite numbers of <f8, got others of int64" + DAMAGED,
    ),
    "NaN": (
        lambda model, data: data["values"]["<f8"].__setitem__(9, np.nan),
        r"must be finite numbers of <f8, got .*" + DAMAGED,
    ),
    "infinity": (
        lambda model, data: model["values"]["<f8"].__setitem__(9, np.inf),
        r"must be finite numbers of <f8, got .*" + DAMAGED,
    ),
    "other integers": (
        lambda model, data: model.update(integers=1),
        r"must be a model with the same integers and meshes",
    ),
    "no integers": (
        lambda model, data: model.pop("integers"),
        r"must be a node with 'integers' \(int\), got nothing",
    ),
    "a model for data": (
        lambda model, data: data.update(copy.deepcopy(model)),
        r"data\.\w+ must have dtype and shape",
    ),
}


@pytest.mark.parametrize("name", MUJOCO)
def test_forged_numbers_of_mujoco(name: str) -> None:
    change, message = MUJOCO[name]
    env = hopper()
    state = through_json(environment_state(env))
    before = integers_of(env)
    found = [node for node in nodes(state) if isinstance(node, dict) and node.get("kind") == "mujoco"]
    change(*sorted(found, key=lambda node: "integers" not in node))
    with pytest.raises(ValueError, match=message):
        load_environment_state(env, state)
    assert integers_of(env) == before


def test_a_window_at_another_place_is_refused() -> None:
    """PushedTask writes through it into MuJoCo's forces."""
    env = hopper()
    state = through_json(environment_state(env))
    windows = [node for node in nodes(state) if isinstance(node, dict) and node.get("kind") == "window"]
    assert [(node["member"], node["offset"]) for node in windows] == [("xfrc_applied", 0)]
    for name, value in (("member", "qpos"), ("offset", 8), ("of", 10**6), ("strides", [0])):
        kept, windows[0][name] = windows[0][name], value
        with pytest.raises(
            ValueError, match=r"_applied\.base must be a part of MuJoCo's \w+, as when it was saved"
        ):
            load_environment_state(env, state)
        windows[0][name] = kept


def test_a_window_is_not_cut_off() -> None:
    """Forces would be written into an array that MuJoCo does not read."""
    env = hopper()
    state = through_json(environment_state(env))
    views = [node for node in nodes(state) if isinstance(node, dict) and node.get("kind") == "view"]
    (view,) = [node for node in views if node["of"]["kind"] == "window"]
    view.clear()
    view.update({"kind": "array", "value": np.zeros(24)})
    with pytest.raises(ValueError, match=r"\._applied must be an array, as when it was saved, got numpy\.ndarray"):
        load_environment_state(env, state)


def test_a_changed_integer_is_noticed_and_not_written() -> None:
    """A task that switches collisions off cannot be continued, and says so."""
    first, second = (gym.make("Hopper-v5").unwrapped for _ in range(2))
    first.model.geom_contype[1] = 0
    before = second.model.geom_contype.copy()
    with pytest.raises(ValueError, match=r"^env\.model must be a model with the same integers and meshes, as when"):
        load_environment_state(second, through_json(environment_state(first)))
    np.testing.assert_array_equal(second.model.geom_contype, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own["map"].update(obstacles=np.array([["<include file='x'/>"]])),
        lambda own: own["map"].update(obstacles=np.zeros((3, 3))),
        lambda own: own["map"].update(goal=np.array([np.nan, 0.0])),
        lambda own: own.pop("steps"),
        lambda own: own["random"].update(bit_generator="MT19937"),
        lambda own: own["random"]["state"].update(inc=-1),
        lambda own: own["map"].update(obstacles=np.full((2, 3), -1.0)),
    ],
)
def test_what_a_model_is_rebuilt_from_is_checked(change: Callable[[Any], Any]) -> None:
    env = navigation().unwrapped
    state = through_json(environment_state(env))
    change(state["rebuilt"])
    with pytest.raises(ValueError, match=r"^the saved state of env\S* must be .*" + DAMAGED):
        load_environment_state(env, state)
