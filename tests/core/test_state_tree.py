from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from entroreg.controllers import Dual, PerStateDual
from entroreg.state_tree import join_state, split_state

KEYS = st.one_of(
    st.integers(-3, 12),
    st.text(max_size=4),
    st.sampled_from(
        ["a", "a/b", "", "1", "__tensor__", "__items__", "__tuple__", "__array__", "__float__", "maxlen"]
    ),
)
TENSORS = st.tuples(
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]),
    st.lists(st.integers(0, 3), max_size=2),
).map(lambda drawn: torch.arange(math.prod(drawn[1])).reshape(drawn[1]).to(drawn[0]))
ARRAYS = st.tuples(
    st.sampled_from(["<f8", ">f4", "<u4", "<u8", "|b1", "<i2", "<f2"]), st.lists(st.integers(0, 3), max_size=2)
).map(lambda drawn: np.arange(math.prod(drawn[1])).reshape(drawn[1]).astype(drawn[0]))
LEAVES = st.one_of(
    TENSORS,
    ARRAYS,
    ARRAYS.filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[-1]),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.just(()),
)
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.tuples(st.lists(inner, max_size=3), st.sampled_from([None, 2])).map(lambda drawn: deque(*drawn)),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, np.ndarray | np.generic):
        return type(left) is type(right) and left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if isinstance(left, deque):
        return isinstance(right, deque) and left.maxlen == right.maxlen and same(list(left), list(right))
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    if isinstance(left, dict):
        return type(right) is dict and list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def round_trip(state: Any) -> Any:
    tensors, data = split_state(state)
    assert all(isinstance(path, str) and isinstance(tensor, Tensor) for path, tensor in tensors.items())
    return join_state(tensors, json.loads(json.dumps(data, allow_nan=False)))


@given(state=STATES)
def test_round_trip_through_json(state: Any) -> None:
    assert same(round_trip(state), state)


@pytest.mark.parametrize(
    "state",
    [
        {"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}},
        {1: torch.zeros(1), "1": torch.ones(1)},
        {"": {"a": torch.zeros(1)}, "a": torch.ones(1)},
        {"a": torch.zeros(1), "a_": torch.ones(1), "": {"a": torch.full((1,), 2.0)}},
        {"__tensor__": "a", "b": torch.zeros(1)},
        {"__tuple__": [1, 2]},
        {"__items__": [["a", 1]]},
        torch.ones(2),
        {},
        [],
        (),
        {"inf": math.inf, "small": 5e-324, "big": 2**80, "zero": -0.0},
    ],
)
def test_awkward_states_round_trip(state: Any) -> None:
    assert same(round_trip(state), state)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_an_adam_state_round_trips_and_continues(amsgrad: bool) -> None:
    def make() -> tuple[list[Tensor], torch.optim.Adam]:
        params = [torch.ones(3, requires_grad=True), torch.zeros(2, requires_grad=True)]
        return params, torch.optim.Adam(
            [{"params": params[:1]}, {"params": params[1:], "lr": 0.3}], amsgrad=amsgrad
        )

    def step(params: list[Tensor], optimizer: torch.optim.Adam, count: int) -> None:
        for i in range(count):
            optimizer.zero_grad()
            sum((p * (i + 1.0) - 2.0).square().sum() for p in params).backward()  # type: ignore[union-attr]
            optimizer.step()

    params, optimizer = make()
    step(params, optimizer, 3)
    state = optimizer.state_dict()
    joined = round_trip(state)
    assert same(joined, state)
    assert all(isinstance(key, int) for key in joined["state"])
    others, other = make()
    with torch.no_grad():
        for ours, theirs in zip(others, params, strict=True):
            ours.copy_(theirs)
    other.load_state_dict(
        {**joined, "state": {k: {n: t.clone() for n, t in v.items()} for k, v in joined["state"].items()}}
    )
    step(params, optimizer, 4)
    step(others, other, 4)
    assert all(map(torch.equal, params, others))


def test_controllers_round_trip() -> None:
    dual, table = Dual(-1.0, learning_rate=0.1), PerStateDual(torch.nn.Linear(2, 1), -1.0)
    dual.update(torch.zeros(2))
    table.update(torch.zeros(2), torch.ones(2, 2))
    for controller in (dual, table):
        state = round_trip(controller.state_dict())
        controller.load_state_dict(state)
        tensors, _ = split_state(controller.state_dict())
        expected, _ = split_state(state)
        assert same(tensors, expected)


def test_tensors_are_detached_and_mappings_become_dicts() -> None:
    leaf = torch.ones(2, requires_grad=True)
    tensors, data = split_state(OrderedDict(a=[leaf * 2.0], b=(True, None)))
    assert not tensors["a/0"].requires_grad
    assert data == {"a": [{"__tensor__": "a/0"}], "b": {"__tuple__": [True, None]}}


def test_raises() -> None:
    for bad, kind in (
        ({1}, "set"),
        (1j, "complex"),
        (range(2), "range"),
    ):
        with pytest.raises(TypeError, match=rf"^state at 'a/0' must be a tensor or plain data, got {kind}$"):
            split_state({"a": [bad]})
    for key in (1.5, None, (1, 2), True):
        with pytest.raises(TypeError, match=r"^keys of the state at 'a' must be strings or integers, got "):
            split_state({"a": {key: 1}})
    for text in (["a"], [{}]):
        with pytest.raises(TypeError, match=r"^state at 'a' must be an array of numbers, got one of "):
            split_state({"a": np.array(text)})
    with pytest.raises(ValueError, match=r"^tensor 'a/0' is missing from the stored state$"):
        join_state({}, {"a": [{"__tensor__": "a/0"}]})
    tensors, data = split_state({"a": np.zeros(3)})
    data["a"]["shape"] = [10**12]
    with pytest.raises(ValueError, match=r"^the stored array 'a' has 24 bytes, expected \(1000000000000,\) of fl"):
        join_state(tensors, data)
    data["a"] |= {"shape": [3], "dtype": "|O"}
    with pytest.raises(ValueError, match=r"^the stored array 'a' has 24 bytes, expected \(3,\) of object$"):
        join_state(tensors, data)
