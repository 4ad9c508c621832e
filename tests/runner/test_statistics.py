from __future__ import annotations

import doctest
import importlib
import math
import re
import statistics
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, mannwhitneyu, trim_mean

from entroreg.benchmarks.differences import Difference, Ratio, difference, paired_difference, paired_ratio, ratio
from entroreg.benchmarks.profiles import performance_profile, performance_profile_interval
from entroreg.benchmarks.statistics import (
    Interval,
    iqm,
    median_of_task_means,
    optimality_gap,
    probability_of_improvement,
    probability_of_improvement_interval,
    stratified_bootstrap_interval,
)

_NUMBERS = st.floats(-1e6, 1e6) | st.integers(-2, 2).map(float)  # the second for ties
_SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 4))
_SCORES = _SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=_NUMBERS))
_SAME_TASKS = st.integers(1, 3).flatmap(
    lambda tasks: st.tuples(
        *[st.integers(1, 6).flatmap(lambda s: arrays(np.float64, (s, tasks), elements=_NUMBERS))] * 2
    )
)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- iqm


@given(_SCORES)
def test_iqm_is_scipys_trimmed_mean(scores: np.ndarray) -> None:
    np.testing.assert_allclose(iqm(scores), trim_mean(scores.flatten(), 0.25), rtol=1e-12, atol=1e-9)


@given(_SCORES, st.floats(-100, 100), st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_iqm_moves_with_the_scores_and_forgets_their_order(
    scores: np.ndarray, shift: float, scale: float, random: Any
) -> None:
    flat = scores.flatten().tolist()
    random.shuffle(flat)
    assert iqm(flat) == iqm(scores)
    np.testing.assert_allclose(iqm(scale * scores + shift), scale * iqm(scores) + shift, rtol=1e-9, atol=1e-6)
    tolerance = 1e-9 * np.abs(scores).max()
    assert scores.min() - tolerance <= iqm(scores) <= scores.max() + tolerance


def test_iqm_ignores_the_outer_quarters() -> None:
    assert iqm([1.0, 2.0, 3.0, 4.0]) == 2.5
    assert iqm([-1e9, 2.0, 3.0, 1e9]) == 2.5
    assert iqm([1.0, 2.0, 6.0]) == 3.0
    assert iqm(5.0) == 5.0
    assert type(iqm([1, 2])) is float


def test_iqm_over_axes_is_iqm_of_each_slice() -> None:
    scores = _rng().normal(size=(6, 5, 3))
    np.testing.assert_array_equal(iqm(scores, axis=(1, 2)), [iqm(slice_) for slice_ in scores])
    np.testing.assert_array_equal(
        iqm(scores, axis=(0,)), [[iqm(scores[:, i, j]) for j in range(3)] for i in range(5)]
    )
    np.testing.assert_array_equal(iqm(scores, axis=(2, 0)), [iqm(scores[:, i]) for i in range(5)])


# --- the bootstrap interval


@pytest.mark.parametrize(("statistic", "mean"), [(iqm, iqm), (np.mean, np.mean), (np.median, np.median)])
def test_the_interval_is_the_loop_written_out(statistic: Any, mean: Any) -> None:
    scores = _rng(1).normal(size=(5, 3))
    rng = _rng(2)
    picked = rng.integers(5, size=(400, 5, 3))
    estimates = [
        float(mean(np.array([[scores[picked[r, s, t], t] for t in range(3)] for s in range(5)])))
        for r in range(400)
    ]
    expected = np.percentile(estimates, [5, 95])
    actual = stratified_bootstrap_interval(scores, statistic, confidence=0.9, resamples=400, rng=_rng(2))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_tasks_are_never_mixed() -> None:
    scores = np.array([[0.0, 1000.0]] * 4)
    assert stratified_bootstrap_interval(scores, np.mean, rng=_rng()) == Interval(500.0, 500.0)


def test_seeds_are_resampled_independently_within_each_task() -> None:
    # Opposite tasks: resampled together the mean would never change.
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert stratified_bootstrap_interval(scores, np.mean, rng=_rng()) == Interval(0.0, 1.0)


def test_the_same_generator_gives_the_same_interval_and_is_the_only_randomness() -> None:
    scores = _rng(3).normal(size=(5, 3))
    first = stratified_bootstrap_interval(scores, rng=_rng(4))
    np.random.seed(0)
    assert stratified_bootstrap_interval(scores, rng=_rng(4)) == first
    assert stratified_bootstrap_interval(scores, rng=_rng(5)) != first


def test_more_confidence_is_a_wider_interval() -> None:
    scores = _rng(3).normal(size=(6, 3))
    inner, outer = (stratified_bootstrap_interval(scores, confidence=c, rng=_rng()) for c in (0.5, 0.99))
    assert inner is not None
    assert outer is not None
    assert outer.low < inner.low < iqm(scores) < inner.high < outer.high


def test_the_interval_of_the_mean_has_the_width_of_the_standard_error() -> None:
    scores = _rng(3).normal(size=(40, 3))
    interval = stratified_bootstrap_interval(scores, np.mean, resamples=20_000, rng=_rng())
    assert interval is not None
    width = 2 * 1.959964 * np.sqrt((scores.var(axis=0) / 40).sum()) / 3
    assert abs(interval.high - interval.low - width) < 0.02 * width  # measured: 0.3 %


@pytest.mark.parametrize(("seeds", "tasks", "low", "high"), [(20, 4, 0.92, 0.97), (5, 5, 0.87, 0.95)])
def test_the_interval_holds_the_truth_as_often_as_documented(
    seeds: int, tasks: int, low: float, high: float
) -> None:
    rng = _rng(6)
    held = []
    for _ in range(1000):
        interval = stratified_bootstrap_interval(rng.normal(size=(seeds, tasks)), resamples=400, rng=rng)
        assert interval is not None
        held.append(interval.low <= 0.0 <= interval.high)
    assert low < np.mean(held) < high  # measured: 0.938 and 0.907, standard error 0.008


def test_one_seed_has_no_interval() -> None:
    assert stratified_bootstrap_interval([[1.0, 2.0]], rng=_rng()) is None
    assert probability_of_improvement_interval([[1.0]], [[1.0], [2.0]], rng=_rng()) is None
    assert probability_of_improvement_interval([[1.0], [2.0]], [[1.0]], rng=_rng()) is None


# --- probability of improvement


@given(_SAME_TASKS)
def test_probability_of_improvement_is_mann_whitneys_u(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    shares = [mannwhitneyu(x[:, t], y[:, t]).statistic / (len(x) * len(y)) for t in range(x.shape[1])]
    np.testing.assert_allclose(probability_of_improvement(x, y), np.mean(shares), rtol=1e-12)


@given(_SAME_TASKS)
def test_what_x_wins_y_loses(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    assert 0 <= probability_of_improvement(x, y) <= 1
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1)
    assert probability_of_improvement(x, x) == 0.5
    assert probability_of_improvement(y.max() + 1 + np.abs(x), y) == 1


def test_the_interval_of_the_probability_agrees_with_resampled_scores() -> None:
    x, y = _rng(7).normal(size=(6, 3)).round(1), _rng(8).normal(0.5, size=(4, 3)).round(1)
    rng = _rng(9)
    estimates = [
        probability_of_improvement(
            np.take_along_axis(x, rng.integers(6, size=(6, 3)), axis=0),
            np.take_along_axis(y, rng.integers(4, size=(4, 3)), axis=0),
        )
        for _ in range(4000)
    ]
    actual = probability_of_improvement_interval(x, y, confidence=0.9, resamples=4000, rng=_rng(10))
    assert actual is not None
    np.testing.assert_allclose(actual, np.percentile(estimates, [5, 95]), atol=0.02)
    assert actual.low < probability_of_improvement(x, y) < actual.high


def test_the_interval_of_the_probability_holds_the_truth() -> None:
    rng = _rng(11)
    held = []
    for _ in range(500):
        x, y = rng.normal(size=(10, 4)), rng.normal(size=(10, 4))
        interval = probability_of_improvement_interval(x, y, resamples=300, rng=rng)
        assert interval is not None
        held.append(interval.low <= 0.5 <= interval.high)
    assert 0.90 < np.mean(held) < 0.98


# --- the median of task means and the optimality gap


@given(_SCORES)
def test_the_median_of_task_means_is_the_middle_of_sorted_means(scores: np.ndarray) -> None:
    means = sorted(math.fsum(column) / len(column) for column in scores.T.tolist())
    half = len(means) // 2
    middle = means[half] if len(means) % 2 else (means[half - 1] + means[half]) / 2
    assert median_of_task_means(scores) == pytest.approx(middle, rel=1e-12, abs=1e-9)


def test_the_median_of_task_means_is_not_the_median() -> None:
    scores = np.array([[0.0, 0.0, 5.0], [0.0, 3.0, 5.0], [9.0, 3.0, 5.0]])
    assert median_of_task_means(scores) == 3.0
    assert median_of_task_means(scores.T) == pytest.approx(8 / 3)  # seeds and tasks are not the same
    assert np.median(scores) == 3.0
    assert type(median_of_task_means([[1, 2]])) is float


@given(_SCORES, st.floats(-5, 5))
def test_the_optimality_gap_is_the_mean_of_what_is_missing(scores: np.ndarray, gamma: float) -> None:
    missing = [gamma - score if score < gamma else 0.0 for score in scores.ravel().tolist()]
    expected = math.fsum(missing) / len(missing)
    assert optimality_gap(scores, gamma=gamma) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_optimality_gap_of_known_scores() -> None:
    assert optimality_gap([[0.5, 2.0], [1.0, 0.0]]) == 0.375  # gamma is 1
    assert optimality_gap([3.0, 5.0], gamma=4.0) == 0.5
    assert optimality_gap([1.0, 7.0]) == 0.0


@given(_SCORES, st.floats(-100, 100), st.floats(0.01, 100), st.floats(-5, 5), st.randoms(use_true_random=False))
def test_both_move_with_the_scores_and_forget_the_order_of_seeds(
    scores: np.ndarray, shift: float, scale: float, gamma: float, random: Any
) -> None:
    moved = scale * scores + shift
    moved_gamma = scale * gamma + shift
    for column in moved.T:  # a view: each task is shuffled on its own
        column[:] = random.sample(column.tolist(), len(column))
    close = {"rel": 1e-9, "abs": 1e-6}
    assert median_of_task_means(moved) == pytest.approx(scale * median_of_task_means(scores) + shift, **close)
    gap = optimality_gap(scores, gamma=gamma)
    assert optimality_gap(moved, gamma=moved_gamma) == pytest.approx(scale * gap, **close)
    assert gap >= 0
    assert gap >= gamma - scores.mean() - 1e-9 * np.abs(scores).max()
    assert scores.min() - 1e-9 <= median_of_task_means(scores) <= scores.max() + 1e-9


@pytest.mark.parametrize("statistic", [median_of_task_means, partial(optimality_gap, gamma=0.3)])
def test_over_axes_they_are_those_of_each_slice_and_can_be_resampled(statistic: Any) -> None:
    scores = _rng().normal(size=(6, 5, 3))
    np.testing.assert_allclose(statistic(scores, axis=(1, 2)), [statistic(slice_) for slice_ in scores])
    np.testing.assert_allclose(statistic(scores, axis=(2, 0)), [statistic(scores[:, i].T) for i in range(5)])
    picked = _rng(2).integers(6, size=(300, 6, 3))
    estimates = [statistic(np.take_along_axis(scores[:, 0], rows, axis=0)) for rows in picked]
    actual = stratified_bootstrap_interval(scores[:, 0], statistic, resamples=300, rng=_rng(2))
    np.testing.assert_allclose(actual, np.percentile(estimates, [2.5, 97.5]), rtol=1e-12)


# --- profiles


@given(_SCORES, st.lists(_NUMBERS, min_size=1, max_size=6))
def test_a_profile_counts_the_runs_above(scores: np.ndarray, thresholds: list[float]) -> None:
    thresholds = [*thresholds, float(scores[0, 0])]  # a tie, which is not above
    runs = np.sort(scores.ravel())
    expected = 1 - np.searchsorted(runs, thresholds, side="right") / runs.size
    profile = performance_profile(scores, thresholds)
    np.testing.assert_allclose(profile, expected, atol=1e-15)
    assert np.all(np.diff(profile[np.argsort(thresholds)]) <= 0)
    np.testing.assert_array_equal(performance_profile(scores[::-1], thresholds), profile)
    np.testing.assert_array_equal(performance_profile(2 * scores, 2 * np.array(thresholds)), profile)


def test_the_area_over_a_profile_below_gamma_is_the_optimality_gap() -> None:
    scores = _rng(3).uniform(0, 2, size=(4, 3))
    edges = np.sort(np.append(scores[scores < 1], [0.0, 1.0]))
    area = np.sum((1 - performance_profile(scores, edges[:-1])) * np.diff(edges))
    assert area == pytest.approx(optimality_gap(scores), rel=1e-12)


def test_the_band_of_one_task_has_binomial_ends() -> None:
    # The number of resampled runs above a threshold is binomial: of n draws, each with the share's probability.
    scores = np.arange(40.0)[:, None]
    thresholds = [-1.0, 9.5, 19.5, 35.5, 39.0]
    band = performance_profile_interval(scores, thresholds, confidence=0.9, resamples=40_000, rng=_rng())
    assert band is not None
    expected = binom(40, performance_profile(scores, thresholds)).ppf([[0.05], [0.95]]) / 40
    np.testing.assert_allclose(band, expected, atol=1e-12)


def test_the_band_resamples_the_seeds_of_each_task_on_their_own() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])  # opposite tasks: resampled together the profile is always 1/2
    band = performance_profile_interval(scores, [0.5], rng=_rng())
    np.testing.assert_array_equal(band, [[0.0], [1.0]])
    apart = np.array([[0.0, 9.0]] * 5)  # a task is never resampled into the other
    np.testing.assert_array_equal(performance_profile_interval(apart, [5.0], rng=_rng()), [[0.5], [0.5]])


def test_the_band_is_that_of_the_profile_as_a_statistic() -> None:
    scores, thresholds = _rng(5).normal(size=(9, 4)), np.array([-0.5, 0.7])
    band = performance_profile_interval(scores, thresholds, confidence=0.8, resamples=20_000, rng=_rng())
    assert band is not None
    for at, *ends in zip(thresholds, *band, strict=True):
        share = stratified_bootstrap_interval(scores > at, np.mean, confidence=0.8, resamples=20_000, rng=_rng(1))
        np.testing.assert_allclose(ends, share, atol=1.01 / 36)  # one run: a quantile of so few values can flip
    assert np.all(np.diff(band, axis=1) < 0)


# --- differences


@given(_SAME_TASKS)
def test_the_difference_is_that_of_the_statistics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    found = difference(x, y, resamples=20, rng=_rng())
    expected = trim_mean(x.flatten(), 0.25) - trim_mean(y.flatten(), 0.25)
    assert found.difference == pytest.approx(expected, rel=1e-9, abs=1e-8)
    assert difference(y, x, resamples=20, rng=_rng()).difference == -found.difference
    assert (found.interval is None) == (min(len(x), len(y)) < 2)
    if found.interval is not None:
        assert x.min() - y.max() - 1e-6 <= found.interval.low <= found.interval.high <= x.max() - y.min() + 1e-6


@given(_SCORES, st.floats(-100, 100), st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_the_paired_difference_is_that_of_the_means(x: np.ndarray, shift: float, scale: float, random: Any) -> None:
    y = scale * x[::-1] + shift
    found = paired_difference(x, y, resamples=50, rng=_rng())
    tolerance = 1e-9 * (np.abs(x).max() + np.abs(y).max() + 1)
    assert found.difference == pytest.approx(math.fsum([*x.flat, *(-y).flat]) / x.size, abs=tolerance)
    rows = random.sample(range(len(x)), len(x))
    assert paired_difference(x[rows], y[rows], resamples=50, rng=_rng()).difference == pytest.approx(
        found.difference, abs=tolerance
    )
    # What a seed does to both drops out, and a constant moves both ends.
    seeds = np.linspace(-50, 50, len(x))[:, None]
    moved = paired_difference(x + seeds + shift, y + seeds, resamples=50, rng=_rng())
    assert moved.difference == pytest.approx(found.difference + shift, abs=tolerance)
    if found.interval is None:
        assert len(x) == 1
        assert moved.interval is None
    else:
        np.testing.assert_allclose(moved.interval, np.add(found.interval, shift), atol=tolerance)


def test_pairs_stay_together_and_unpaired_seeds_do_not() -> None:
    x = _rng(1).normal(scale=100, size=(6, 3))
    together = paired_difference(x + 2, x, rng=_rng())
    np.testing.assert_allclose([together.difference, *together.interval], 2.0, rtol=1e-9)  # type: ignore[misc]
    apart = difference(x + 2, x, np.mean, rng=_rng()).interval
    assert apart is not None
    assert apart.high - apart.low > 50
    # Opposite tasks: pairs are resampled in each task on their own.
    opposite = paired_difference([[0.0, 1.0], [1.0, 0.0]], np.zeros((2, 2)), rng=_rng())
    assert opposite == Difference(0.5, Interval(0.0, 1.0))


def test_the_intervals_of_differences_have_the_width_of_the_standard_error() -> None:
    x, y = _rng(3).normal(size=(40, 3)), _rng(4).normal(0.5, 2.0, size=(30, 3))
    apart = difference(x, y, np.mean, resamples=20_000, rng=_rng())
    error = np.sqrt((x.var(axis=0) / 40 + y.var(axis=0) / 30).sum()) / 3
    ends = apart.difference + 1.959964 * error * np.array([-1, 1])
    np.testing.assert_allclose(apart.interval, ends, atol=0.1 * error)  # measured: 0.03
    paired = paired_difference(x[:30], y, resamples=20_000, rng=_rng())
    error = np.sqrt(((x[:30] - y).var(axis=0) / 30).sum()) / 3
    ends = paired.difference + 1.959964 * error * np.array([-1, 1])
    np.testing.assert_allclose(paired.interval, ends, atol=0.1 * error)


def test_the_interval_of_a_difference_is_that_of_every_pair_of_resamples() -> None:
    # Two seeds of one task: the means of resamples are 0, 1/2 and 1 of the range, with chances 1/4, 1/2, 1/4.
    found = difference([[0.0], [4.0]], [[0.0], [1.0]], np.mean, confidence=0.6, resamples=40_000, rng=_rng())
    ends = [a - b for a, b in product((0.0, 2.0, 2.0, 4.0), (0.0, 0.5, 0.5, 1.0))]
    expected = np.percentile(ends, [20, 80], method="inverted_cdf")
    assert found == Difference(1.5, Interval(*expected))


def test_the_paired_difference_of_another_statistic_resamples_pairs() -> None:
    x, y = _rng(1).normal(size=(8, 1)), _rng(2).normal(size=(8, 1))
    found = paired_difference(x, y, iqm, confidence=0.8, resamples=100, rng=_rng())
    assert found.difference == iqm(x) - iqm(y)
    draws = _rng().integers(8, size=(100, 8, 1))[:, :, 0]
    differences = [iqm(x[rows]) - iqm(y[rows]) for rows in draws]
    assert found.interval == pytest.approx(np.quantile(differences, [0.1, 0.9]), abs=1e-12)


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9),
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9),
    st.floats(0.01, 100),
)
def test_the_ratio_of_times_apart_is_that_of_the_medians(x: list[float], y: list[float], scale: float) -> None:
    found = ratio(x, y, resamples=50, rng=_rng())
    assert found.ratio == pytest.approx(statistics.median(x) / statistics.median(y), rel=1e-12)
    faster = ratio([scale * time for time in x], y, resamples=50, rng=_rng())
    assert faster.ratio == pytest.approx(scale * found.ratio, rel=1e-9)
    if found.interval is None:
        assert min(len(x), len(y)) == 1
        return
    assert min(x) / max(y) * (1 - 1e-9) <= found.interval.low <= found.interval.high <= max(x) / min(y) * (1 + 1e-9)
    assert faster.interval == pytest.approx([scale * end for end in found.interval], rel=1e-9)


def test_the_interval_of_a_ratio_by_hand() -> None:
    # Medians of two resampled from two: the lower, the middle, the higher, with chances 1/4, 1/2, 1/4.
    found = ratio([1.0, 3.0], [1.0, 1.0], confidence=0.6, resamples=40_000, rng=_rng())
    assert found == Ratio(2.0, Interval(pytest.approx(1.0), pytest.approx(3.0)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x must be positive and finite, got 0\.0 at index 1"):
        ratio([1.0, 0.0], [1.0], rng=_rng())


_TIMES = st.lists(st.tuples(*[st.floats(1e-6, 1e6)] * 2), min_size=1, max_size=9)


@given(_TIMES, st.floats(0.01, 100))
def test_the_ratio_is_the_middle_of_the_rounds(rounds: list[tuple[float, float]], scale: float) -> None:
    x, y = map(list, zip(*rounds, strict=True))
    found = paired_ratio(x, y, resamples=30, rng=_rng())
    ratios = sorted(a / b for a, b in rounds)
    assert found.ratio == pytest.approx(statistics.median(ratios), rel=1e-12)
    if found.interval is None:
        assert len(rounds) == 1
        return
    assert ratios[0] <= found.interval.low <= found.interval.high <= ratios[-1]
    # In another unit it is the same; of one method's times twice it is one.
    slower = paired_ratio(scale * np.array(x), y, resamples=30, rng=_rng())
    np.testing.assert_allclose(
        [slower.ratio, *slower.interval],  # type: ignore[misc]
        scale * np.array([found.ratio, *found.interval]),
        rtol=1e-9,
    )
    assert paired_ratio(y, y, resamples=30, rng=_rng()) == Ratio(1.0, Interval(1.0, 1.0))


def test_the_interval_of_a_ratio_has_binomial_ends() -> None:
    # The median of 9 resampled rounds is at most the k-th smallest if 5 or more of them are: a binomial chance.
    ratios = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0])
    chance = binom(9, np.arange(1, 10) / 9).sf(4)
    expected = [ratios[np.searchsorted(chance, p)] for p in (0.05, 0.95)]
    noise = np.linspace(1, 3, 9)[::-1]  # of a whole round
    found = paired_ratio(ratios * noise, noise, confidence=0.9, resamples=40_000, rng=_rng())
    np.testing.assert_allclose([found.ratio, *found.interval], [16.0, *expected])  # type: ignore[misc]


@pytest.mark.parametrize(("seeds", "low", "high"), [(5, 0.80, 0.87), (10, 0.87, 0.93)])
def test_the_paired_interval_holds_the_truth_as_often_as_documented(seeds: int, low: float, high: float) -> None:
    rng = _rng(6)
    found = [
        paired_difference(*rng.normal(size=(2, seeds, 1)), resamples=400, rng=rng).interval for _ in range(1500)
    ]
    held = [ends.low <= 0.0 <= ends.high for ends in found if ends is not None]
    assert low < np.mean(held) < high  # measured: 0.836 and 0.900, standard error 0.009


@pytest.mark.parametrize(("rounds", "low", "high"), [(2, 0.44, 0.54), (5, 0.91, 0.96), (10, 0.90, 0.96)])
def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_documented(
    rounds: int, low: float, high: float
) -> None:
    rng = _rng(7)
    found = [
        paired_ratio(*np.exp(rng.normal(size=(2, rounds))), resamples=400, rng=rng).interval for _ in range(1500)
    ]
    held = [ends.low <= 1.0 <= ends.high for ends in found if ends is not None]
    assert low < np.mean(held) < high  # measured: 0.49, 0.937 and 0.929, standard error 0.007 to 0.013


def test_one_seed_or_round_has_a_value_and_no_interval() -> None:
    assert performance_profile_interval([[1.0, 2.0]], [0.0], rng=_rng()) is None
    assert difference([[3.0]], [[1.0], [1.0]], rng=_rng()) == Difference(2.0, None)
    assert difference([[1.0], [1.0]], [[3.0]], rng=_rng()) == Difference(-2.0, None)
    assert paired_difference([[3.0, 5.0]], [[1.0, 1.0]], rng=_rng()) == Difference(3.0, None)
    assert paired_ratio([3.0], [2.0], rng=_rng()) == Ratio(1.5, None)


# --- a second implementation; test_rliable.py repeats it where rliable can be imported


X, Y = _rng(12).normal(size=(10, 5)), _rng(13).normal(0.3, size=(8, 5))

# What rliable 1.2.0 says of X: the value and its 95 % interval from 1000 resamples after np.random.seed(14).
RLIABLES: dict[str, tuple[Any, float, list[float]]] = {
    "iqm": (iqm, 0.000725088670352344, [-0.25363370490196235, 0.2619912735322761]),
    "mean": (np.mean, -0.00559051208065422, [-0.24352857262765618, 0.20839777463130868]),
    "median": (median_of_task_means, -0.022472747151001282, [-0.24618148526503622, 0.2649132946727669]),
    "optimality gap": (optimality_gap, 1.0507905269009385, [0.8491800947853199, 1.2741517861920926]),
}


class _RliablesDraws:
    """The draws that rliable makes after np.random.seed(14), without a change to the global generator."""

    def __init__(self) -> None:
        self._random = np.random.RandomState(14)

    def integers(self, high: int, size: tuple[int, ...]) -> np.ndarray:
        return np.stack([self._random.choice(high, size[1:], replace=True) for _ in range(size[0])])


@pytest.mark.parametrize("name", RLIABLES)
def test_rliables_draws_give_the_interval_that_rliable_gave(name: str) -> None:
    statistic, value, interval = RLIABLES[name]
    draws: Any = _RliablesDraws()
    assert statistic(X) == pytest.approx(value, rel=1e-10)
    found = stratified_bootstrap_interval(X, statistic, resamples=1000, rng=draws)
    np.testing.assert_allclose(found, interval, rtol=1e-10)


def test_rliables_draws_give_the_paired_interval_that_rliable_gave() -> None:
    draws: Any = _RliablesDraws()
    found = paired_difference(X[:8], Y, resamples=1000, rng=draws)
    assert found.difference == pytest.approx(-0.5639174466356893, rel=1e-10)
    np.testing.assert_allclose(found.interval, [-0.999196780673909, -0.12011005961389133], rtol=1e-10)


def test_agrees_with_what_rliable_gave_from_other_draws() -> None:
    # rliable 1.2.0, 50,000 resamples; the standard error of an end of ours, from 20,000, is 0.004.
    ours = stratified_bootstrap_interval(X, resamples=20_000, rng=_rng())
    np.testing.assert_allclose(ours, [-0.2551, 0.2751], atol=0.015)
    found = difference(X, Y, resamples=20_000, rng=_rng())
    assert found.difference == pytest.approx(-0.6176074865281728, rel=1e-10)
    np.testing.assert_allclose(found.interval, [-1.0590, -0.1976], atol=0.015)
    assert probability_of_improvement(X, Y) == pytest.approx(0.3275, rel=1e-10)
    ours = probability_of_improvement_interval(X, Y, resamples=20_000, rng=_rng())
    np.testing.assert_allclose(ours, [0.210, 0.445], atol=0.01)
    taus = [-1.0, -0.25, 0.5, 1.25]
    np.testing.assert_allclose(performance_profile(X, taus), [0.88, 0.6, 0.34, 0.06], rtol=1e-10)
    band = performance_profile_interval(X, taus, resamples=20_000, rng=_rng())
    np.testing.assert_allclose(band, [[0.78, 0.48, 0.22, 0.0], [0.96, 0.72, 0.46, 0.12]], atol=1e-10)


# --- wrong use


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_named(bad: float) -> None:
    scores = np.zeros((4, 2))
    scores[3, 1] = bad
    good = np.zeros((4, 2))
    message = rf"scores must be finite, got {bad} at index \(3, 1\): a diverged run needs a score"
    with pytest.raises(ValueError, match=message):
        iqm(scores)
    with pytest.raises(ValueError, match=message):
        stratified_bootstrap_interval(scores, np.mean, rng=_rng())
    for x, y, name in ((scores, good, "x"), (good, scores, "y")):
        with pytest.raises(ValueError, match=rf"^{name} must be finite, got {bad} at index \(3, 1\)"):
            probability_of_improvement(x, y)
        with pytest.raises(ValueError, match=rf"^{name} must be finite"):
            probability_of_improvement_interval(x, y, rng=_rng())


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have at least one score, got shape \(0,\)"):
        iqm([])
    with pytest.raises(ValueError, match=r"at least one score, got shape \(0, 3\)"):
        stratified_bootstrap_interval(np.zeros((0, 3)), rng=_rng())
    with pytest.raises(ValueError, match=r"shape \(seeds, tasks\), got \(3,\): use scores\[:, None\] for one task"):
        stratified_bootstrap_interval([1.0, 2.0, 3.0], rng=_rng())
    with pytest.raises(ValueError, match="x and y must have the same tasks, got 3 and 1: drop the others"):
        probability_of_improvement(np.zeros((2, 3)), np.zeros((2, 1)))


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, float("nan")])
def test_the_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got"):
        stratified_bootstrap_interval([[1.0]], confidence=confidence, rng=_rng())
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got"):
        probability_of_improvement_interval([[1.0]], [[1.0]], confidence=confidence, rng=_rng())


def test_there_must_be_resamples_and_a_statistic_of_each() -> None:
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        stratified_bootstrap_interval([[1.0], [2.0]], resamples=0, rng=_rng())
    with pytest.raises(ValueError, match=r"statistic must return shape \(2000,\), got \(\): reduce the axes given"):
        stratified_bootstrap_interval([[1.0], [2.0]], lambda scores, axis: scores.mean(), rng=_rng())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_everywhere(bad: float) -> None:
    scores, good = np.array([[1.0], [bad]]), np.ones((2, 1))
    message = rf"scores must be finite, got {bad} at index \(1, 0\): a diverged run needs a score"
    for call in (
        median_of_task_means,
        partial(median_of_task_means, axis=(0, 1)),
        optimality_gap,
        partial(performance_profile, thresholds=[0.0]),
        partial(performance_profile_interval, thresholds=[0.0], rng=_rng()),
    ):
        with pytest.raises(ValueError, match=message):
            call(scores)
    for of in (difference, paired_difference):
        with pytest.raises(ValueError, match=r"^x must be finite"):
            of(scores, good, rng=_rng())
        with pytest.raises(ValueError, match=r"^y must be finite"):
            of(good, scores, rng=_rng())
    with pytest.raises(ValueError, match=rf"gamma must be finite, got {bad}: 1.0 is usual"):
        optimality_gap(good, gamma=bad)
    with pytest.raises(ValueError, match=rf"thresholds must be finite, got {bad}: use np.linspace"):
        performance_profile(good, [0.0, bad])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores must have shape \(seeds, tasks\), got \(2,\)"):
        median_of_task_means([1.0, 2.0])
    with pytest.raises(ValueError, match=r"axis must name the seeds' axis and the tasks', got \(0,\)"):
        median_of_task_means([[1.0, 2.0]], axis=(0,))
    with pytest.raises(ValueError, match=r"scores must have shape \(seeds, tasks\), got \(2,\)"):
        performance_profile([1.0, 2.0], [0.0])
    for thresholds in (0.5, [], [[0.5]]):
        shape = re.escape(str(np.shape(thresholds)))
        with pytest.raises(ValueError, match=rf"thresholds must have shape \(K,\) with K > 0, got {shape}: use"):
            performance_profile([[1.0]], thresholds)
    for of in (difference, paired_difference):
        with pytest.raises(ValueError, match="x and y must have the same tasks, got 3 and 1"):
            of(np.zeros((2, 3)), np.zeros((2, 1)), rng=_rng())
    with pytest.raises(ValueError, match="the same seeds, got 3 and 2: drop the others, or use difference"):
        paired_difference(np.zeros((3, 1)), np.zeros((2, 1)), rng=_rng())


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_times_are_positive(bad: float) -> None:
    for x, y, name in (([1.0, bad], [1.0, 1.0], "x"), ([1.0, 1.0], [1.0, bad], "y")):
        with pytest.raises(ValueError, match=rf"^{name} must be positive and finite, got {bad} at index 1: drop"):
            paired_ratio(x, y, rng=_rng())


def test_rounds_are_one_dimensional_and_as_many() -> None:
    for x in ([], [[1.0]], 1.0):
        with pytest.raises(ValueError, match=r"^x must have shape \(rounds,\) with at least one, got \("):
            paired_ratio(x, [1.0], rng=_rng())
    with pytest.raises(ValueError, match="x and y must have the same rounds, got 1 and 2: drop those that only"):
        paired_ratio([1.0], [1.0, 2.0], rng=_rng())


@pytest.mark.parametrize("values", [{"confidence": 95.0}, {"resamples": 0}])
def test_every_interval_checks_its_bootstrap(values: dict[str, Any]) -> None:
    (name,) = values
    for of in (difference, paired_difference):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            of([[1.0]], [[1.0]], rng=_rng(), **values)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        paired_ratio([1.0], [1.0], rng=_rng(), **values)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        performance_profile_interval([[1.0]], [0.0], rng=_rng(), **values)


@pytest.mark.parametrize(("name", "examples"), [("statistics", 9), ("profiles", 3), ("differences", 3)])
def test_doctests(name: str, examples: int) -> None:
    result = doctest.testmod(importlib.import_module(f"entroreg.benchmarks.{name}"))
    assert result.failed == 0
    assert result.attempted >= examples
