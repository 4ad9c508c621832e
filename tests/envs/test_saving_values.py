"""Any plain data that an environment holds comes back to the last bit, in type, order and place in memory."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from saving_holding import Holding, Pair, Phase, moved, through
from stable_baselines3.common.monitor import Monitor

from entroreg.envs.saving import environment_state
from entroreg.state_tree import split_state


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last bit, in type and in order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        layout = [getattr(one, name) == getattr(other, name) for name in ("dtype", "shape", "strides")]
        if isinstance(one, np.ndarray):
            layout.append(one.flags.writeable == other.flags.writeable)
        if one.dtype == object:
            return all(layout) and all(map(same, one.flat, other.flat))
        return all(layout) and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        extra = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return extra and same([*one.items()], [*other.items()])
    if isinstance(one, list | tuple | deque | set | frozenset):
        alike = getattr(one, "maxlen", None) == getattr(other, "maxlen", None) and len(one) == len(other)
        return alike and all(map(same, one, other))
    if isinstance(one, float):
        return math.isnan(one) == math.isnan(other) and (math.isnan(one) or repr(one) == repr(other))
    return bool(one == other)


NUMBERS = [*"?bBhHiIlLefdFD", "M8[s]", "m8[ms]", ">f8", "<i2", "S3", "U2"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**140), 2**140),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.binary(max_size=3),
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner), max_leaves=3)


@st.composite
def _arrays(draw: Callable[..., Any]) -> np.ndarray:
    array = draw(hnp.arrays(draw(st.sampled_from(NUMBERS)), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
    axes = draw(st.permutations(range(array.ndim)))
    array = array.transpose(axes).copy(order="K")  # in any order in memory
    array.flags.writeable = draw(st.booleans())
    return array


def _containers(inner: Any) -> Any:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 2, 5])),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3).map(OrderedDict),
        st.dictionaries(HASHABLE, inner, max_size=2).map(
            lambda items: _filled(np.empty(2, object), [items, items])
        ),
    )


def _filled(array: np.ndarray, items: list[Any]) -> np.ndarray:
    array[:] = items
    return array


LEAVES = st.one_of(
    SCALARS,
    _arrays(),
    _arrays().filter(lambda array: array.size > 0).map(lambda array: array.flat[0]),
    st.complex_numbers(),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)),
    st.builds(slice, st.none() | st.integers(0, 9), st.integers(0, 9)),
    st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=3).map(Counter),
    st.lists(st.integers(0, 10**6), min_size=17, max_size=20),
    st.lists(st.floats(), min_size=17, max_size=20),
    st.lists(st.booleans(), min_size=17, max_size=20).map(tuple),
    st.lists(st.floats(width=32), min_size=17, max_size=20).map(lambda row: [np.float32(one) for one in row]),
    st.lists(st.integers(0, 2**80), min_size=17, max_size=20).map(lambda row: [*row, -1, 2**63]),
)
DATA = st.recursive(LEAVES, _containers, max_leaves=8)
NAMES = st.sampled_from(["a", "b", "c_", "_d"])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, DATA, max_size=3), st.dictionaries(NAMES, DATA, max_size=3))
def test_any_data_comes_back(saved: dict[str, Any], live: dict[str, Any]) -> None:
    second = moved(Holding(**saved), Holding(**live))
    assert vars(second).keys() == saved.keys()
    for name, value in saved.items():
        assert same(vars(second)[name], value), (value, vars(second)[name])


@pytest.mark.parametrize(
    "value",
    [
        *(np.array(3.0), np.array([], dtype=np.int8), np.array("text"), np.zeros((2, 0, 3), order="F")),
        *(np.float32(0.1), np.str_("word"), np.datetime64("2020-01-01"), np.bool_(True)),
        *({3, 1, 2}, frozenset({(1, 2)}), set(range(40)), -0.0, True, 2**70, range(3), slice(1, None), 1j),
        *(Phase.RUN, Pair(1, np.ones(2))),
    ],
    ids=repr,
)
def test_single_values(value: Any) -> None:
    live = {Phase: Phase.WALK, Pair: Pair(0, 0)}.get(type(value))
    assert same(through(value, live), value)


def test_dicts_with_a_factory_keep_it() -> None:
    found = through(defaultdict(list, {1: [2]}), defaultdict(list))
    assert (found, found.default_factory) == (defaultdict(list, {1: [2]}), list)
    with pytest.raises(ValueError, match=r"^env\.it\.default_factory must be builtins\.list, as when it was saved"):
        through(defaultdict(list), defaultdict(int))
    with pytest.raises(ValueError, match=r"^env\.it\.default_factory must be builtins\.list.* got nothing"):
        through(defaultdict(list))


def test_order_of_a_dict_survives_sorted_json() -> None:
    assert [*through({"z": 1, "a": 2, 10: 3, 9: 4})] == ["z", "a", 10, 9]


def test_memory_order_decides_over_sums_and_is_kept() -> None:
    values = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    array = np.asfortranarray(values)
    assert array.sum() != values.sum()
    assert through(array).sum() == array.sum()


def test_a_hundred_thousand_episodes_are_three_arrays() -> None:
    env = Monitor(gym.make("Pendulum-v1"))
    env.episode_returns = np.random.default_rng(0).normal(size=100_000).tolist()
    env.episode_lengths, env.episode_times = [200] * 100_000, [float(time) for time in range(100_000)]
    tensors, tree = split_state(environment_state(env))
    assert len(json.dumps(tree)) < 10_000
    assert sum(tensor.numel() for tensor in tensors.values()) < 2_500_000
    second = moved(env, Monitor(gym.make("Pendulum-v1")))
    assert same(second.episode_returns, env.episode_returns)
    assert same(second.episode_lengths, env.episode_lengths)
