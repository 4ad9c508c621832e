"""QARL's curriculum against quadrature, SciPy's densities, a dense grid and the sequence of the paper."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import gammaln
from scipy.stats import gamma as gamma_distribution

from entroreg import GammaCurriculum
from entroreg.curriculum import gamma_kl, importance_weighted_return, nearest_feasible, trust_region

SHAPES = st.floats(0.3, 80.0)
SEEDS = st.integers(0, 2**32 - 1)


@given(shape=SHAPES, other=SHAPES)
def test_divergence_against_quadrature(shape: float, other: float) -> None:
    p, q = gamma_distribution(shape), gamma_distribution(other)
    low, high = p.ppf([1e-13, 1.0 - 1e-13])

    def integrand(log_x: float) -> float:  # in log x, where the density of a small shape has no pole
        x = math.exp(log_x)
        return float(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)) * x)

    expected, _ = quad(integrand, math.log(low), math.log(high), limit=200, points=[math.log(p.mean())])
    assert gamma_kl(shape, other) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@given(shape=SHAPES, other=SHAPES)
def test_divergence_is_no_less_than_0(shape: float, other: float) -> None:
    assert gamma_kl(shape, other) >= -1e-12
    assert gamma_kl(shape, shape) == 0.0


@given(shape=SHAPES, old=SHAPES, seed=SEEDS)
def test_weights_against_the_ratio_of_densities(shape: float, old: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    taus, returns = rng.gamma(50.0, 1e-3, size=7), rng.normal(size=7)
    densities = [gamma_distribution(k, scale=1e-3).logpdf(taus) for k in (shape, old)]
    expected = np.mean(np.exp(densities[0] - densities[1]) * returns)
    found = importance_weighted_return(shape, old, 1000.0, taus, returns)
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-300)
    many = importance_weighted_return(np.array([shape, old]), old, 1000.0, taus, returns)
    np.testing.assert_allclose(many, [found, returns.mean()], rtol=1e-10, atol=1e-12)


@given(shape=st.floats(1e-3, 1e4), max_kl=st.floats(1e-3, 5.0))
def test_the_trust_region_ends_at_the_divergence(shape: float, max_kl: float) -> None:
    low, high = trust_region(shape, max_kl)
    assert 0.0 < low < shape < high
    digits = 1e-15 * (1.0 + abs(gammaln(high)))  # the terms of the divergence cancel where shapes are large
    for end in (low, high):
        assert gamma_kl(end, shape) == pytest.approx(max_kl, rel=1e-9, abs=digits)


# Feasible sets.


def _between(*pieces: tuple[float, float]) -> Callable[[Any], Any]:
    """Return a slack that is at least 0 exactly in the pieces."""
    return lambda k: np.max([(k - low) * (high - k) for low, high in pieces], axis=0)


@pytest.mark.parametrize(
    ("pieces", "target", "start", "expected"),
    [
        ([(2.0, 3.0), (6.0, 8.0)], 1.0, 7.0, 2.0),  # past a gap to the nearer piece
        ([(2.0, 3.0), (6.0, 8.0)], 20.0, 2.5, 8.0),
        ([(2.0, 3.0), (6.0, 8.0)], 5.5, 2.5, 6.0),  # the target lies in the gap
        ([(2.0, 2.004), (6.0, 8.0)], 1.0, 7.0, 2.0),  # narrower than the grid's step
        ([(1.0, 9.0)], 4.0, 7.0, 4.0),
        ([(5.0, 5.0)], 1.0, 5.0, 5.0),  # one point only: where it began
    ],
)
def test_the_nearest_of_several_pieces(
    pieces: list[tuple[float, float]], target: float, start: float, expected: float
) -> None:
    assert nearest_feasible(1.0, 10.0, target, _between(*pieces), start) == pytest.approx(expected, rel=1e-9)


def test_the_divergence_decides_between_both_sides() -> None:
    found = nearest_feasible(1.0, 9.0, 3.0, _between((1.0, 1.5), (5.0, 9.0)), start=8.0)
    assert gamma_kl(5.0, 3.0) < gamma_kl(1.5, 3.0)
    assert found == pytest.approx(5.0, rel=1e-9)


@given(old=SHAPES, seed=SEEDS, depth=st.floats(0.0, 1.2))
def test_a_step_is_feasible_and_as_good_as_a_dense_grid(old: float, seed: int, depth: float) -> None:
    rng = np.random.default_rng(seed)
    taus = rng.gamma(old, 1e-3, size=30).clip(min=1e-8)
    returns = rng.normal(10.0, 5.0, size=30)
    low, high = trust_region(old, 0.5)
    grid = np.append(np.geomspace(low, high, 4_001), old)
    reached = importance_weighted_return(grid, old, 1000.0, taus, returns)
    floor = float(returns.mean() - depth * (returns.mean() - reached.min()))
    curriculum = GammaCurriculum(floor, shape=old)
    step = curriculum.observe(list(taus), list(returns))
    assert step is not None
    assert step["kl"] <= 0.5 + 1e-9
    assert importance_weighted_return(curriculum.shape, old, 1000.0, taus, returns) >= floor - 1e-9 * abs(floor)
    best = gamma_kl(grid[reached >= floor], 1.0).min() if (reached >= floor).any() else math.inf
    assert step["kl_to_target"] <= best + 1e-9 * max(1.0, best)
    assert step["kl_to_target"] <= gamma_kl(old, 1.0) + 1e-12, "staying is always possible"


# The sequence.


def _feed(curriculum: GammaCurriculum, value: float) -> dict[str, float]:
    step = curriculum.observe([curriculum.mean] * curriculum.samples, [value] * curriculum.samples)
    assert step is not None
    return step


def test_the_sequence_of_the_paper() -> None:
    curriculum = GammaCurriculum(return_floor=10.0)
    shapes = []
    while not curriculum.finished:
        shapes.append(_feed(curriculum, 1e9)["shape"])
    assert [round(shape, 1) for shape in shapes[:2]] == [43.3, 37.1]
    assert len(shapes) == 13
    assert shapes[-1] == 1.0
    assert all(a > b for a, b in pairwise(shapes))
    assert _feed(curriculum, 1e9)["shape"] == 1.0, "it stays"
    assert curriculum.held_back == 0


def test_nothing_moves_below_the_floor() -> None:
    curriculum = GammaCurriculum(return_floor=10.0)
    for count in range(1, 4):
        step = _feed(curriculum, 9.999)
        assert (step["shape"], step["held_back"], curriculum.held_back) == (50.0, 1.0, count)
    moved = _feed(curriculum, 1e9)
    assert moved["held_back"] == 0.0
    assert moved["shape"] < 50.0
    assert (curriculum.updates, curriculum.held_back) == (4, 3)


def test_it_can_move_up() -> None:
    curriculum = GammaCurriculum(return_floor=0.0, shape=2.0, target_shape=3.0)
    _feed(curriculum, 1e9)
    assert curriculum.shape == 3.0


def test_pairs_wait_for_enough() -> None:
    curriculum = GammaCurriculum(return_floor=10.0, samples=3)
    assert curriculum.observe([0.05, 0.05], [1e9, 1e9]) is None
    assert curriculum.updates == 0
    assert curriculum.observe([0.05], [1e9]) is not None
    assert curriculum.observe([0.05], [1e9]) is None, "each pair counts once"


def test_draws_follow_the_shape() -> None:
    curriculum = GammaCurriculum(return_floor=10.0)
    drawn = curriculum.draw(20_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(curriculum.mean, rel=5 * 50.0**-0.5 / 20_000**0.5)
    assert drawn.std() == pytest.approx(50.0**0.5 / 1000.0, rel=0.03)
    tiny = GammaCurriculum(return_floor=10.0, shape=1e-3).draw(100, np.random.default_rng(0))
    assert tiny.min() == 1e-8


def test_a_restored_curriculum_goes_on() -> None:
    rng = np.random.default_rng(0)
    one, other = GammaCurriculum(return_floor=5.0, samples=4), GammaCurriculum(return_floor=5.0, samples=4)
    for _ in range(5):
        taus = one.draw(3, rng)
        one.observe(list(taus), list(rng.normal(8.0, 3.0, size=3)))
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.state_dict() == one.state_dict()
    assert one.observe([0.04] * 4, [7.0] * 4) == other.observe([0.04] * 4, [7.0] * 4)


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"return_floor": math.nan}, ValueError, "return_floor must be finite"),
        ({"return_floor": "high"}, TypeError, "return_floor must be a number, got str"),
        ({"shape": 0.0}, ValueError, "shape must be finite and above 0"),
        ({"target_shape": -1.0}, ValueError, "target_shape must be finite and above 0"),
        ({"rate": 0.0}, ValueError, "rate must be finite and above 0"),
        ({"max_kl": 0.0}, ValueError, "max_kl must be finite and above 0"),
        ({"samples": 0}, ValueError, "samples must be at least 1"),
        ({"samples": 2.5}, TypeError, "samples must be an int"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GammaCurriculum(**{"return_floor": 1.0, **arguments})


@pytest.mark.parametrize(("tau", "value"), [(0.0, 1.0), (-0.1, 1.0), (math.inf, 1.0), (0.1, math.nan)])
def test_a_bad_pair_is_refused_and_none_is_kept(tau: float, value: float) -> None:
    curriculum = GammaCurriculum(return_floor=1.0)
    with pytest.raises(ValueError, match="temperatures must be above 0 and returns finite"):
        curriculum.observe([0.1, tau], [1.0, value])
    with pytest.raises(ValueError, match="shorter"):
        curriculum.observe([0.1, 0.1], [1.0])
    assert curriculum.state_dict()["pairs"] == []


def test_a_state_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="state of GammaCurriculum"):
        GammaCurriculum(return_floor=1.0).load_state_dict({"shape": 1.0})
