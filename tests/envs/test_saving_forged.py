"""A state that no environment was saved as is refused by path, in one documented error, and takes little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from saving_holding import forged, node_of

from entroreg.envs.saving import load_environment_state

DAMAGED = r": the checkpoint is damaged$"

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
    "records in place of text": (
        lambda a: a["text"].update(dtype="V8"),
        "text must be an array of numbers or texts, got 'V8'",
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
    env, state = forged(lambda state: change(state["attributes"]))
    with pytest.raises(ValueError, match=DAMAGED) as found:
        load_environment_state(env, state)
    assert str(found.value).startswith(f"the saved state of env.{message}")


@pytest.mark.parametrize("of", ["mt", "old", "philox"])
@pytest.mark.parametrize("place", [-1, 10**6, 2**70, 1.5, None])
def test_places_in_generators_are_checked(of: str, place: Any) -> None:
    """NumPy reads from there without looking."""

    def change(state: Any) -> None:
        found = node_of(state, of)["state"]
        if of == "philox":
            found["buffer_pos"] = place
        else:
            found["state"]["pos"] = place

    env, state = forged(change)
    with pytest.raises(ValueError, match=rf"^the saved state of env\.{of} must be one of a random generator"):
        load_environment_state(env, state)


def test_a_deep_state_is_refused() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = {"kind": "list", "items": [deep]}
    env, state = forged(lambda state: None)
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
    env, state = forged(lambda state: state["attributes"].update(none=node))
    tracemalloc.start()
    with pytest.raises(ValueError, match=DAMAGED):
        load_environment_state(env, state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
