"""Whatever is in a state, it changes data only: objects, functions and classes stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from saving_holding import forged, hopper, node_of
from saving_oracle import through_json
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from entroreg.envs.saving import environment_state, load_environment_state

SECRET = {"kind": "list", "items": [1]}
STRUCTURE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "function by data": (
        lambda a: a.update(counted=SECRET),
        r"env\.counted must be a list of 1, as .* got builtins\.function",
    ),
    "function by none": (lambda a: a.update(draw=None), r"env\.draw must be NoneType, as .* got builtins\.method"),
    "class by text": (lambda a: a.update(kind="os"), r"env\.kind must be str, as .* got builtins\.type"),
    "another function": (
        lambda a: a["partial"]["parts"][0].update(text="os.system"),
        r"env\.partial\.func must be os\.system",
    ),
    "another class": (lambda a: a["kind"].update(text="os.system"), r"env\.kind must be os\.system, as when"),
    "a class of an object": (
        lambda a: a["balls"]["items"][0].update(type="subprocess.Popen"),
        r"env\.balls\[0\] must be sub",
    ),
    "an object in place of data": (
        lambda a: a.update(none=a["one"]),
        r"env\.none must be what it shares with another place",
    ),
    "an object for another": (
        lambda a: a["balls"]["items"].__setitem__(1, a["one"]),
        r"env\.balls\[1\] must be what it shares with another place, a \S*Ball, as .* got \S*Ball",
    ),
    "object by array": (lambda a: a.update(net=a["row"]), r"env\.net must be an array, as .* got torch\S*Linear"),
    "objects by numbers": (
        lambda a: a.update(balls=a["long"]),
        r"env\.balls must be numbers, as .* got builtins\.list",
    ),
    "a shorter list": (
        lambda a: a["balls"]["items"].pop(),
        r"env\.balls must be a list of 1, as .* got builtins\.list",
    ),
    "a shorter table": (
        lambda a: a["table"]["items"].pop(0),
        r"env\.table\['a'\] must be absent, as .* got builtins\.tuple",
    ),
    "a table by a list": (
        lambda a: a.update(table=SECRET),
        r"env\.table must be a list of 1, as .* got builtins\.dict",
    ),
    "an absent object": (lambda a: a.pop("one"), r"env\.one must be absent, as .* got \S*Ball"),
    "a variable by an object": (
        lambda a: a["counted"]["parts"].pop(),
        r"env\.counted must be \S*counted with 0 parts, as .* got builtins\.function",
    ),
    "a factory": (
        lambda a: a["lists"].update(factory=None),
        r"env\.lists\.default_factory must be NoneType, as .* builtins.type",
    ),
    "an object elsewhere": (
        lambda a: a.update(net=a["one"]),
        r"env\.net must be what it shares with another place",
    ),
    "a function elsewhere": (
        lambda a: a.update(table=a["one"]),
        r"env\.table must be what it shares with another place",
    ),
    "a generator by data": (
        lambda a: a.update(rng=3),
        r"env\.rng must be int, as .* got numpy\.random\S*Generator",
    ),
    "a member by data": (lambda a: a.update(phase=3), r"env\.phase must be int, as .* got \S*Phase"),
    "a named tuple by a tuple": (lambda a: a.update(pair=[1, 2]), r"env\.pair must be a tuple, as .* got \S*Pair"),
    "a parameter by data": (
        lambda a: node_of(a["net"], "_parameters")["items"][0].__setitem__(1, 3),
        r"env\.net\._parameters\['weight'\] must be int, as .* got torch\S*Parameter",
    ),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_what_is_not_data_is_not_replaced(name: str) -> None:
    change, message = STRUCTURE[name]
    env, state = forged(lambda state: change(state["attributes"]))
    with pytest.raises(ValueError, match=rf"^{message}"):
        load_environment_state(env, state)


@pytest.mark.parametrize(
    "name", ["walk", "step", "__class__", "__dict__", "__init__", "np_random", "_np_random.state", "a b", ""]
)
def test_attributes_that_hide_something_are_refused(name: str) -> None:
    env, state = forged(lambda state: state["attributes"].update({name: 1}))
    with pytest.raises(
        ValueError, match=r"^the saved state of env must be one of an attribute that holds data, got"
    ):
        load_environment_state(env, state)
    assert name not in vars(env)


def test_attributes_of_wrappers_hide_nothing_beneath_them() -> None:
    env = hopper()
    for name in ("set_state", "push", "do_simulation"):
        state = through_json(environment_state(env))
        state["attributes"][name] = 1
        with pytest.raises(ValueError, match="must be one of an attribute that holds data, got"):
            load_environment_state(env, state)


@pytest.mark.parametrize("name", ["mujoco_renderer", "spec", "_ezpickle_kwargs"])
def test_attributes_that_are_left_out_are_not_taken(name: str) -> None:
    env = gym.make("Hopper-v5").unwrapped
    state = through_json(environment_state(env))
    state["attributes"][name] = None
    with pytest.raises(ValueError, match="must be an object with attributes that are state, got"):
        load_environment_state(env, state)


@pytest.mark.parametrize("node", [{"kind": "list", "items": []}, None, 3, {"kind": "array", "value": np.ones(2)}])
def test_an_environment_is_not_replaced(node: Any) -> None:
    around = {"env": VecNormalize(DummyVecEnv([hopper]))}
    state = through_json(environment_state(around))
    vector = state["items"][0][1]["attributes"]["venv"]["attributes"]
    one = vector["envs"]["items"][0]["attributes"]
    for owner, name in ((state, "items"), (vector, "envs"), (vector["envs"], "items"), (one, "env")):
        kept = owner[name]
        owner[name] = {id(state): [["env", node]], id(vector["envs"]): [node]}.get(id(owner), node)
        with pytest.raises(ValueError, match=r"^env\S* must be .*, as when it was saved, got"):
            load_environment_state(around, state)
        owner[name] = kept
    load_environment_state(around, state)
