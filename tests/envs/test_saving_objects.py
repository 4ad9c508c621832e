"""Who shares what with whom, and what is no plain data, is afterwards as it was: or it is refused."""

from __future__ import annotations

import functools
import operator
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from saving_holding import Ball, Holding, Pair, Phase, moved, through
from saving_oracle import through_json

from entroreg.envs.saving import environment_state, load_environment_state

ZEROS = np.zeros(3)
OPTIONS = {"speed": 1.0}


def test_shared_objects_are_shared_afterwards() -> None:
    row, array = [1], np.ones(2)
    first = Holding(a=row, b=row, c=array, d={"x": array})
    second = moved(first, Holding(a=[0], b=[0], c=np.zeros(2), d={}))
    second.a.append(2)
    second.c[0] = 7.0
    assert second.b == [1, 2]
    assert second.d["x"][0] == 7.0


def test_what_was_not_shared_is_not_afterwards() -> None:
    row, array, ball = [0], np.zeros(2), np.random.default_rng(0)
    second = moved(
        Holding(
            a=[1], b=[2], c=np.ones(2), d=2 * np.ones(2), e=np.random.default_rng(1), f=np.random.default_rng(2)
        ),
        Holding(a=row, b=row, c=array, d=array[:], e=ball, f=ball),
    )
    assert (second.a, second.b, second.c[0], second.d[0]) == ([1], [2], 1.0, 2.0)
    assert second.e is not second.f
    assert [second.e.random(), second.f.random()] == [np.random.default_rng(seed).random() for seed in (1, 2)]


@pytest.mark.parametrize(
    "view",
    [
        lambda root: root[1:],
        lambda root: root[::-2],
        lambda root: root.reshape(2, 3).T,
        lambda root: root[2:3, None],
    ],
)
def test_views_are_views_afterwards(view: Callable[[Any], Any]) -> None:
    first = Holding(root=np.arange(6.0), a=None)
    first.a = view(first.root)
    second = moved(first, Holding(root=None))
    assert second.a.strides == first.a.strides
    np.testing.assert_array_equal(second.a, first.a)
    second.root += 10.0
    np.testing.assert_array_equal(second.a, first.a + 10.0)
    assert np.shares_memory(second.a, second.root)


def test_parts_of_one_array_without_it() -> None:
    root = np.arange(6.0)
    second = moved(Holding(a=root[:4], b=root[2:]), Holding())
    second.a[2] = 7.0
    assert second.b.tolist() == [7.0, 3.0, 4.0, 5.0]


def test_cycles() -> None:
    first = Holding(items=[], table={})
    first.items.append(first.items)
    first.table["env"] = first
    second = Holding(items=[None], table={})
    second.table["env"] = second
    moved(first, second)
    assert second.items[0] is second.items
    assert second.table["env"] is second


def test_constants_of_modules_and_classes_stay() -> None:
    """A new environment holds them until its first step, and they must not be written to."""
    live = Holding(at=ZEROS, options=OPTIONS)
    moved(Holding(at=np.ones(3), options={"speed": 2.0}), live)
    assert (live.at.tolist(), live.options) == ([1.0] * 3, {"speed": 2.0})
    assert (ZEROS.tolist(), OPTIONS) == ([0.0] * 3, {"speed": 1.0})


def test_memory_of_something_else_is_copied_or_refused() -> None:
    tensor = torch.arange(3.0)
    np.testing.assert_array_equal(through(tensor.numpy()), tensor.numpy())
    assert through(np.broadcast_to(np.float64(2.0), (3,))).tolist() == [2.0] * 3
    with pytest.raises(
        ValueError, match=r"^env\.\w must be an array with memory of its own, got some of env\.\w: put"
    ):
        environment_state(Holding(a=tensor, b=tensor.numpy()))
    with pytest.raises(ValueError, match="must be an array with memory of its own"):
        environment_state(Holding(a=tensor, b=tensor[1:]))


# Objects, functions, generators.


def test_objects_stay_and_change() -> None:
    ball, other = Ball(), Ball()
    second = Holding(a=ball, b=other, c=ball)
    one = Ball(3.0)
    moved(Holding(a=one, b=Ball(4.0), c=one), second)
    assert (second.a, second.b, second.c) == (ball, other, ball)
    assert (ball.at, other.at) == (3.0, 4.0)


def test_an_attribute_that_went_is_gone_and_one_that_came_is_there() -> None:
    second = moved(Holding(new=[1], cached=3), Holding(old=2))
    assert vars(second) == {"new": [1], "cached": 3}


def test_cached_properties_come_back() -> None:
    class Cached(Holding):
        @functools.cached_property
        def size(self) -> int:
            return 1

    first = Cached()
    assert first.size == 1
    assert vars(moved(first, Cached())) == {"size": 1}


def test_bound_methods_follow_their_objects() -> None:
    def made(seed: int) -> Holding:
        rng, line, ball = np.random.default_rng(seed), deque([seed]), Ball(seed)
        return Holding(
            draw=rng.normal, pop=line.popleft, line=line, get=functools.partial(getattr, ball, "at"), b=ball
        )

    second = moved(made(1), made(2))
    assert second.draw() == np.random.default_rng(1).normal()
    assert second.get() == 1
    second.line.append(5)
    assert (second.pop(), second.pop()) == (1, 5)


def test_variables_of_closures_come_back() -> None:
    def made() -> Holding:
        count, seen = 0, []

        def step() -> list[int]:
            nonlocal count
            count += 1
            seen.append(count)
            return seen

        return Holding(step=step)

    first, second = made(), made()
    first.step()
    first.step()
    assert moved(first, second).step() == [1, 2, 3]


def test_arguments_of_partial_functions_come_back() -> None:
    second = moved(Holding(f=functools.partial(operator.add, 1)), Holding(f=functools.partial(operator.add, 5)))
    assert second.f(2) == 3


@pytest.mark.parametrize(
    "make", [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64]
)
def test_generators_of_numpy(make: Any) -> None:
    first = Holding(rng=np.random.Generator(make(np.random.SeedSequence([3, 4], spawn_key=(1,)))), none=None)
    first.rng.normal(size=5)
    first.rng.integers(5, dtype=np.uint32)  # half a word is left over
    first.rng.spawn(2)
    second = moved(first, Holding(none=None))
    assert second.rng.integers(2**31, dtype=np.uint32) == first.rng.integers(2**31, dtype=np.uint32)
    assert second.rng.normal(size=9).tolist() == first.rng.normal(size=9).tolist()
    assert second.rng.spawn(1)[0].random() == first.rng.spawn(1)[0].random()


def test_other_generators() -> None:
    def made(seed: int) -> Holding:
        of_torch = torch.Generator()
        of_torch.manual_seed(seed)
        return Holding(a=np.random.RandomState(seed), b=random.Random(seed), c=of_torch)

    first = made(1)
    first.a.normal(), first.b.gauss(0, 1)  # each keeps a second number
    for second in (moved(first, made(2)), moved(first, Holding())):
        draws = [
            (env.a.normal(), env.b.gauss(0, 1), env.b.random(), torch.rand(1, generator=env.c))
            for env in (second, moved(first, made(3)))
        ]
        assert draws[0] == draws[1]


def test_one_generator_that_were_two() -> None:
    shared = np.random.RandomState(0)
    second = moved(Holding(a=np.random.RandomState(1), b=np.random.RandomState(2)), Holding(a=shared, b=shared))
    assert [second.a.rand(), second.b.rand()] == [np.random.RandomState(seed).rand() for seed in (1, 2)]


def test_the_generator_of_the_process() -> None:
    """One that others draw from too is set, not replaced."""
    live = Holding(rng=np.random.mtrand._rand, draw=np.random.random)
    before = environment_state(live)
    expected = np.random.random(3)
    load_environment_state(live, through_json(before))
    assert live.rng is np.random.mtrand._rand
    assert np.random.random(3).tolist() == expected.tolist()


def test_tensors_and_networks() -> None:
    torch.manual_seed(0)
    first, second = (Holding(net=torch.nn.Linear(2, 1), at=torch.ones(2, dtype=torch.bfloat16)) for _ in range(2))
    weight = second.net.weight
    first.at += 1
    moved(first, second)
    assert second.net.weight is weight
    assert torch.equal(weight, first.net.weight)
    assert torch.equal(second.at, first.at)


# What would silently be another environment.


ANOTHER: list[tuple[Callable[[Holding], Any], Callable[[Holding], Any], str]] = [
    (
        lambda env: env.run,
        lambda env: env.walk,
        r"must be \S*Holding.run, as when it was saved, got builtins.method: ",
    ),
    (lambda env: len, lambda env: max, "must be builtins.len, as when it was saved, got builtins.builtin_function"),
    (lambda env: lambda: 1.5, lambda env: lambda: 2.5, r"must be \S*<lambda> of \[1.5\], as when it was saved"),
    (lambda env: Ball, lambda env: Pair, r"must be \S*Ball, as when it was saved, got builtins.type: "),
    (lambda env: np.dtype("f4"), lambda env: np.dtype("f8"), "must be float32, as when it was saved, got numpy"),
    (lambda env: Ball(), lambda env: None, r"must be \S*Ball, as when it was saved, got nothing: "),
    (lambda env: Ball(), lambda env: Holding(), r"must be \S*Ball, as when it was saved, got \S*Holding: "),
    (lambda env: None, lambda env: Ball(), r"must be NoneType, as when it was saved, got \S*Ball: "),
    (
        lambda env: [Ball()],
        lambda env: [Ball(), Ball()],
        "must be a list of 1, as when it was saved, got builtins.list: ",
    ),
    (lambda env: [Ball(), Ball()], lambda env: [], r"\[0\] must be \S*Ball, as when it was saved, got nothing: "),
    (
        lambda env: {1: Ball()},
        lambda env: {1: Ball(), 2: Ball()},
        r"\[2\] must be absent, as when it was saved, got",
    ),
    (lambda env: Phase.RUN, lambda env: None, r"must be a member of \S*Phase, as when it was saved, got nothing: "),
    (
        lambda env: Pair(1, 2),
        lambda env: (1, 2),
        r"must be \S*Pair of 2, as when it was saved, got builtins.tuple: ",
    ),
    (
        lambda env: random.Random(1),
        lambda env: np.random.default_rng(),
        r"must be a random generator \(Random\), as",
    ),
]


@pytest.mark.parametrize(("saved", "live", "message"), ANOTHER)
def test_another_kind_is_refused(saved: Any, live: Any, message: str) -> None:
    first, second = Holding(), Holding()
    first.it, second.it = saved(first), live(second)
    with pytest.raises(ValueError, match=rf"^env\.it{' ' if message[0] == 'm' else ''}{message}") as found:
        moved(first, second)
    assert str(found.value).endswith("make the environment as it was made then")


def test_one_object_that_were_two() -> None:
    ball = Ball()
    with pytest.raises(ValueError, match=r"^env\.b must be an object of its own, as when it was saved"):
        moved(Holding(a=Ball(), b=Ball()), Holding(a=ball, b=ball))


def test_an_attribute_with_an_object_went() -> None:
    with pytest.raises(ValueError, match=r"^env\.ball must be absent, as when it was saved, got \S*Ball: "):
        moved(Holding(), Holding(ball=Ball()))


def test_tuples_and_members_are_shared_or_not() -> None:
    """Nobody can change them, so it does not matter in which places a new environment has the same ones."""
    pair, array = Pair(1, [2]), np.ones(2)
    first = Holding(a=Phase.RUN, b=Phase.RUN, c=pair, d=pair, e=(array, 1), f=(array, 1))
    second = Holding(a=Phase.RUN, b=Phase.WALK, c=Pair(0, []), d=Pair(0, []), e=(0, 0), f=(1, 1))
    moved(first, second)
    assert (second.a, second.b, second.c, second.d) == (Phase.RUN, Phase.RUN, pair, pair)
    assert second.c.right is second.d.right
    assert second.e[0] is second.f[0]
