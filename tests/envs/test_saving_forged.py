"""A state is untrusted: whatever is in it, it changes data only, and anything else is one documented error."""

from __future__ import annotations

import copy
import functools
import random
import tracemalloc
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from saving_holding import Ball, Holding, Pair, Phase
from saving_oracle import differences, through_json
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import entroreg.envs  # noqa: F401  (registers the tasks)
from entroreg.envs.saving import environment_state, load_environment_state

DAMAGED = r": the checkpoint is damaged$"


def _holding() -> Holding:
    """Return an environment with something of every kind."""
    rng, row, ball, count = np.random.default_rng(0), np.arange(12.0).reshape(3, 4), Ball(2.0), 0

    def counted() -> int:
        nonlocal count
        count += 1
        return count

    return Holding(
        **{
            "rng": rng,
            "draw": rng.normal,
            "mt": np.random.Generator(np.random.MT19937(1)),
            "old": np.random.RandomState(1),
        },
        **{
            "python": random.Random(1),
            "torch": torch.Generator(),
            "philox": np.random.Generator(np.random.Philox(1)),
        },
        **{
            "row": row,
            "view": row[1:, ::2],
            "objects": np.array([1, "a", None], dtype=object),
            "text": np.array(["ab"]),
        },
        **{
            "counted": counted,
            "partial": functools.partial(max, 3),
            "kind": Ball,
            "balls": [ball, Ball()],
            "one": ball,
        },
        **{
            "table": {"a": ball.__init__, 3: (1, [2])},
            "lists": defaultdict(list, {1: [2]}),
            "line": deque([1, 2], 5),
        },
        **{
            "phase": Phase.RUN,
            "pair": Pair(1, np.ones(2)),
            "long": [1.0] * 20,
            "set": {1, 2},
            "tensor": torch.ones(2),
        },
        **{"scalar": np.float32(1.5), "net": torch.nn.Linear(2, 1), "range": range(3), "none": None, "name": "x"},
    )


def _hopper() -> Any:
    env = Monitor(gym.make("entroreg/Protagonist-v0", task="Hopper-v5"))
    env.reset(seed=0)
    return env


def _navigation() -> Any:
    env = Monitor(gym.make("entroreg/Navigation-v0", obstacles=2))
    env.reset(seed=0)
    return env


def _node(state: Any, *names: Any) -> Any:
    """Return the node of an attribute of an attribute."""
    for name in names:
        state = state["attributes"][name]
    return state


def _forged(change: Callable[[dict[str, Any]], None], env: Any = None) -> tuple[Any, dict[str, Any]]:
    env = _holding() if env is None else env
    state = through_json(environment_state(env))
    change(state)
    return env, state


# The shape of the data.

MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no kind": (lambda a: a["row"].pop("kind"), "row must be a node with 'kind' (str), got nothing"),
    "kind no text": (lambda a: a["row"].update(kind=[1]), "row must be a node with 'kind' (str), got list"),
    "unknown kind": (
        lambda a: a["row"].update(kind="code"),
        "row must be of a known kind, at most 64 deep, got 'code'",
    ),
    "no state": (lambda a: a["rng"].pop("state"), "rng must be one of a random generator (Generator), got None"),
    "no such generator": (
        lambda a: a["rng"].update(of="os"),
        "rng must be a generator of Generator, RandomState, Random, torch, got 'os'",
    ),
    "no such bits": (
        lambda a: a["rng"]["state"].update(bit_generator="os"),
        "rng must be one of a random generator",
    ),
    "text in place of an array": (
        lambda a: a["row"].update(value="x"),
        "row must be a node with 'value' (ndarray), got str",
    ),
    "axes": (lambda a: a["row"].update(axes=[0, 0]), "row must be an array with 2 axes, got [0, 0]"),
    "objects in place of text": (
        lambda a: a["text"].update(dtype="O"),
        "text must be an array of numbers or texts, got 'O'",
    ),
    "no items": (lambda a: a["balls"].pop("items"), "balls must be a node with 'items' (list), got nothing"),
    "shape": (lambda a: a["objects"].update(shape=[7]), "objects must be 3 objects, got [7]"),
    "negative": (
        lambda a: a["view"].update(shape=[-1, 2]),
        "view must be a node whose 'shape' are integers, got [-1, 2]",
    ),
    "outside": (
        lambda a: a["view"].update(offset=8000),
        "view must be a part of an array of shape (12,), got shape [2, 2]",
    ),
    "before": (
        lambda a: a["view"].update(offset=-8),
        "view must be a part of an array of shape (12,), got shape [2, 2]",
    ),
    "strides": (lambda a: a["view"].update(strides=[2**60, 8]), "view must be a part of an array of shape (12,)"),
    "not numbered": (
        lambda a: a["one"].update(of=77),
        "one must be one of something that came before, got number 77",
    ),
    "set of lists": (
        lambda a: a["set"].update(items=[{"kind": "list", "items": []}]),
        "set must be items that can be hashed, got unhashable type: 'list'",
    ),
    "maxlen": (lambda a: a["line"].update(maxlen=-1), "line must be a deque of a length, got -1"),
    "a member": (lambda a: a["phase"].update(name="__class__"), "phase must be a member of"),
    "no number": (lambda a: a["scalar"].update(dtype="O"), "scalar must be a number, got {"),
    "range": (lambda a: a["range"].update(items=["a"]), "range must be the parts of a range, got ['a']"),
    "pairs": (lambda a: a["lists"].update(items=[[1]]), "lists must be a node whose items are pairs, got others"),
    "a tuple": (lambda a: a.update(none=(1,)), "none must be plain data or a node, got tuple"),
    "an array": (lambda a: a.update(none=np.ones(1)), "none must be plain data or a node, got ndarray"),
    "no requires_grad": (
        lambda a: a["tensor"].pop("requires_grad"),
        "tensor must be a node with 'requires_grad' (bool)",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_states_are_refused_by_path(name: str) -> None:
    change, message = MALFORMED[name]
    env, state = _forged(lambda state: change(state["attributes"]))
    with pytest.raises(ValueError, match=DAMAGED) as found:
        load_environment_state(env, state)
    assert str(found.value).startswith(f"the saved state of env.{message}")


@pytest.mark.parametrize("of", ["mt", "old", "philox"])
@pytest.mark.parametrize("place", [-1, 10**6, 2**70, 1.5, None])
def test_places_in_generators_are_checked(of: str, place: Any) -> None:
    """NumPy reads from there without looking."""

    def change(state: Any) -> None:
        found = _node(state, of)["state"]
        if of == "philox":
            found["buffer_pos"] = place
        else:
            found["state"]["pos"] = place

    env, state = _forged(change)
    with pytest.raises(ValueError, match=rf"^the saved state of env\.{of} must be one of a random generator"):
        load_environment_state(env, state)


def test_a_deep_state_is_refused() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = {"kind": "list", "items": [deep]}
    env, state = _forged(lambda state: None)
    state["attributes"]["none"] = deep
    with pytest.raises(
        ValueError, match=r"^the saved state of env\.none(\[0\])+ must be of a known kind, at most 64 deep"
    ):
        load_environment_state(env, state)


@pytest.mark.parametrize(
    "node",
    [
        {"kind": "scalar", "dtype": "S1000000000", "item": 1},
        {"kind": "scalar", "dtype": "V1000000000", "item": 1},
        {"kind": "objects", "shape": [10**12], "items": []},
        {"kind": "objects", "shape": [0, 10**12], "items": []},
        {"kind": "array", "value": np.zeros(4, np.uint8), "dtype": "U1000000000", "shape": [1]},
        {"kind": "array", "value": np.zeros(0, np.uint8), "dtype": "U1", "shape": [10**12]},
        {
            "kind": "view",
            "of": {"kind": "array", "value": np.zeros(1)},
            "offset": 0,
            "shape": [10**9],
            "strides": [0],
        },
        {"kind": "numbers", "in": "list", "of_numpy": False, "value": np.broadcast_to(np.zeros(1), (1, 10**9))},
        {"kind": "random", "of": "Generator", "entropy": 1, "spawn_key": [], "spawned": -1, "state": {}},
        {"kind": "deque", "items": [], "maxlen": 2**70},
    ],
    ids=lambda node: node["kind"],
)
def test_little_memory_is_taken_whatever_sizes_are_claimed(node: dict[str, Any]) -> None:
    env, state = _forged(lambda state: state["attributes"].update(none=node))
    tracemalloc.start()
    with pytest.raises(ValueError, match=DAMAGED):
        load_environment_state(env, state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


# What is not data stays.

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
    "a parameter by data": (
        lambda a: _node(a["net"], "_parameters")["items"][0].__setitem__(1, 3),
        r"env\.net\._parameters\['weight'\] must be int, as .* got torch\S*Parameter",
    ),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_what_is_not_data_is_not_replaced(name: str) -> None:
    change, message = STRUCTURE[name]
    env, state = _forged(lambda state: change(state["attributes"]))
    with pytest.raises(ValueError, match=rf"^{message}"):
        load_environment_state(env, state)


@pytest.mark.parametrize(
    "name", ["walk", "step", "__class__", "__dict__", "__init__", "np_random", "_np_random.state", "a b", ""]
)
def test_attributes_that_hide_something_are_refused(name: str) -> None:
    env, state = _forged(lambda state: state["attributes"].update({name: 1}))
    with pytest.raises(
        ValueError, match=r"^the saved state of env must be one of an attribute that holds data, got"
    ):
        load_environment_state(env, state)
    assert name not in vars(env)


def test_attributes_of_wrappers_hide_nothing_beneath_them() -> None:
    env = _hopper()
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
    env = VecNormalize(DummyVecEnv([_hopper]))
    around = {"env": env}
    state = through_json(environment_state(around))
    inner = state["items"][0][1]["attributes"]["venv"]["attributes"]
    for change in (
        lambda: state.update(items=[["env", node]]),
        lambda: inner.update(envs=node),
        lambda: inner["envs"]["items"].__setitem__(0, node),
        lambda: _node(inner["envs"]["items"][0]).update(env=node),
    ):
        kept = copy.deepcopy(state)
        change()
        with pytest.raises(ValueError, match=r"^env\S* must be .*, as when it was saved, got"):
            load_environment_state(around, state)
        state.clear()
        state.update(kept)
        inner = state["items"][0][1]["attributes"]["venv"]["attributes"]


# MuJoCo.


def _integers(env: Any) -> dict[str, bytes]:
    found = {}
    for part in (env.unwrapped.model, env.unwrapped.data, env.unwrapped.model.opt):
        for name in dir(part):
            value = getattr(part, name) if not name.startswith("_") else None
            if isinstance(value, int) or (isinstance(value, np.ndarray) and value.dtype.kind in "iu"):
                found[f"{type(part).__name__}.{name}"] = np.asarray(value).tobytes()
    return found


MUJOCO: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "more arrays": (
        lambda model, data: model["layout"]["<f8"].update(body_parentid=[5]),
        r"^env\S*\.model\.body_parentid must be \('<f8', \[5\]\), as when it was saved, got None: use the task and the",
    ),
    "fewer arrays": (
        lambda model, data: data["layout"]["<f8"].pop("qpos"),
        r"^env\S*\.data\.qpos must be None, as when",
    ),
    "other shapes": (
        lambda model, data: data["layout"]["<f8"].update(qpos=[7]),
        r"^env\S*\.data\.qpos must be \('<f8', \[7\]\)",
    ),
    "other dtypes": (
        lambda model, data: data["layout"].update({"<i4": {"dof_island": [6]}}),
        r"^env\S*\.data\.dof_island must be \('<i4', \[6\]\), as when it was saved, got None",
    ),
    "no layout": (lambda model, data: data.update(layout={"<f8": 3}), r"must be one with a layout of its arrays"),
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
        r"must be finite numbers of <f8" + DAMAGED,
    ),
    "infinity": (
        lambda model, data: model["values"]["<f8"].__setitem__(9, np.inf),
        r"must be finite numbers of <f8" + DAMAGED,
    ),
    "other integers": (
        lambda model, data: model.update(integers=1),
        r"must be a model with the same integers and meshes",
    ),
    "no integers": (
        lambda model, data: model.pop("integers"),
        r"must be a node with 'integers' \(int\), got nothing",
    ),
    "a model for data": (lambda model, data: data.update(copy.deepcopy(model)), r"\.data\.\w+ must be"),
}


@pytest.mark.parametrize("name", MUJOCO)
def test_forged_numbers_of_mujoco(name: str) -> None:
    change, message = MUJOCO[name]
    env = _hopper()
    state = through_json(environment_state(env))
    before, inner = _integers(env), state
    while "model" not in inner["attributes"]:
        inner = inner["attributes"]["env"]
    change(inner["attributes"]["model"], inner["attributes"]["data"])
    with pytest.raises(ValueError, match=message):
        load_environment_state(env, state)
    assert _integers(env) == before


def test_a_window_at_another_place_is_refused() -> None:
    """PushedTask writes through it into MuJoCo's forces."""
    env = _hopper()
    state = through_json(environment_state(env))
    windows = [node for node in _nodes(state) if isinstance(node, dict) and node.get("kind") == "window"]
    assert [(node["member"], node["offset"]) for node in windows] == [("xfrc_applied", 0)]
    for name, value in (("member", "qpos"), ("offset", 8), ("of", 10**6), ("strides", [0])):
        kept, windows[0][name] = windows[0][name], value
        with pytest.raises(
            ValueError, match=r"_applied\.base must be a part of MuJoCo's \w+, as when it was saved"
        ):
            load_environment_state(env, state)
        windows[0][name] = kept


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
    env = _navigation().unwrapped
    state = through_json(environment_state(env))
    change(state["rebuilt"])
    with pytest.raises(ValueError, match=r"^the saved state of env\S* must be .*" + DAMAGED):
        load_environment_state(env, state)


# Anything.


def _nodes(tree: Any) -> Iterator[Any]:
    yield tree
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(item)


JUNK: tuple[Any, ...] = (
    *(None, True, -1, 3, 2**70, 1e308, float("nan"), "", "x", "__class__", b"\0", [], {}, (), [1], [[1, 2]]),
    *(np.zeros(0), np.ones(3), np.ones((2, 2), np.float32), np.arange(5), np.array(2.0), np.zeros(3, bool)),
    *({"kind": "seen", "of": 0}, {"kind": "list", "items": []}, {"kind": "dict", "items": []}, torch.ones(2)),
)


def _mutate(tree: Any, rng: random.Random) -> None:
    """Change something anywhere in a tree."""
    nodes = [node for node in _nodes(tree) if isinstance(node, dict | list) and node]
    node = rng.choice(nodes)
    name = rng.choice([*node] if isinstance(node, dict) else range(len(node)))
    action = rng.randrange(5)
    if action == 0:
        del node[name]
    elif action == 1:
        node[name] = copy.deepcopy(rng.choice(nodes))
    elif action == 2 and isinstance(node[name], np.ndarray) and node[name].size:
        array = node[name] = node[name].copy()
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice([0, 1, 100])
    elif action == 3 and isinstance(node, dict) and "kind" in node:
        node["kind"] = rng.choice([one["kind"] for one in nodes if isinstance(one, dict) and "kind" in one])
    else:
        node[name] = copy.deepcopy(rng.choice(JUNK))


def _fuzz(make: Callable[[], Any], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    env, rng = make(), random.Random(0)
    good = through_json(environment_state(env))
    inner, refused = getattr(env, "unwrapped", env), 0
    before = _integers(env) if hasattr(inner, "model") else None
    for _ in range(count):
        state = copy.deepcopy(good)
        for _ in range(rng.choice((1, 1, 2, 5))):
            _mutate(state, rng)
        try:
            load_environment_state(env, state)
        except ValueError:
            refused += 1
        assert before is None or _integers_of_model(env) == _integers_of_model_in(before)
        assert not {"step", "reset", "walk", "run", "__class__"} & vars(inner).keys()
        load_environment_state(env, good)  # whatever came in between, the structure is what it was
        assert differences(good, environment_state(env)) == {}
        if before is not None:
            mujoco.mj_step(inner.model, inner.data)
    with capsys.disabled():
        print(
            f"\n{make.__name__}: {count} mutated states, {refused} refused, {count - refused} changed data", end=""
        )
    assert refused > count // 4


def _integers_of_model_in(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in found.items() if not name.startswith("MjData")}


def _integers_of_model(env: Any) -> dict[str, bytes]:
    return _integers_of_model_in(_integers(env))


@pytest.mark.parametrize("make", [_holding, _hopper, _navigation])
def test_mutated_states(
    make: Callable[[], Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for MuJoCo's log of warnings
    _fuzz(make, 150, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_holding, _hopper, _navigation])
def test_many_mutated_states(
    make: Callable[[], Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _fuzz(make, 4000, capsys)
