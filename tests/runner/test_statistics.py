from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu, trim_mean

from entroreg.benchmarks.statistics import (
    Interval,
    iqm,
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


# --- a second implementation


def _rliable(module: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            return importlib.import_module(f"rliable.{module}")
    except (ImportError, TypeError) as error:  # the TypeError: arch 7.2.0, which it imports, fails with pandas 3
        pytest.skip(f"rliable.{module} cannot be imported: {error}")


X, Y = _rng(12).normal(size=(10, 5)), _rng(13).normal(0.3, size=(8, 5))


def test_agrees_with_rliables_statistics() -> None:
    metrics = _rliable("metrics")
    assert iqm(X) == pytest.approx(metrics.aggregate_iqm(X), rel=1e-12)
    assert probability_of_improvement(X, Y) == pytest.approx(metrics.probability_of_improvement(X, Y), rel=1e-12)


def test_agrees_with_intervals_that_rliable_gave() -> None:
    # rliable 1.2.0, 5000 resamples; see the next test, which repeats them where rliable can be imported.
    ours = stratified_bootstrap_interval(X, resamples=5000, rng=_rng())
    np.testing.assert_allclose(ours, [-0.257, 0.272], atol=0.02)
    ours = probability_of_improvement_interval(X, Y, resamples=5000, rng=_rng())
    np.testing.assert_allclose(ours, [0.210, 0.445], atol=0.02)


def test_agrees_with_rliables_intervals() -> None:
    library, metrics = _rliable("library"), _rliable("metrics")

    def interval(data: Any, function: Any) -> Any:
        np.random.seed(14)  # the generator that rliable uses
        return library.get_interval_estimates({"a": data}, lambda *s: np.array([function(*s)]), reps=5000)[1]["a"]

    ours = stratified_bootstrap_interval(X, resamples=5000, rng=_rng())
    np.testing.assert_allclose(ours, interval(X, metrics.aggregate_iqm).ravel(), atol=0.02)
    ours = probability_of_improvement_interval(X, Y, resamples=5000, rng=_rng())
    theirs = interval((X, Y), metrics.probability_of_improvement).ravel()
    np.testing.assert_allclose(ours, theirs, atol=0.02)


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
