"""The statistics against rliable, the library of the paper that they are from, where it is installed.

Two checks of intervals: rliable's own draws give its own interval, to the last digits; and where the draws differ,
rliable's ends lie where its resampling and ours may put them (see `_agree`).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from entroreg.benchmarks.differences import difference, paired_difference
from entroreg.benchmarks.profiles import performance_profile, performance_profile_interval
from entroreg.benchmarks.statistics import (
    iqm,
    median_of_task_means,
    optimality_gap,
    probability_of_improvement,
    probability_of_improvement_interval,
    stratified_bootstrap_interval,
)

pytest.importorskip("rliable")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies
    metrics = importlib.import_module("rliable.metrics")

RESAMPLES = 3000
TAUS = np.linspace(-1.5, 2.5, 9)


@pytest.fixture(scope="module")
def library() -> Any:
    """What resamples: it needs arch, which in the versions that rliable asks for fails to import with pandas 3."""
    pandas = pytest.importorskip("pandas")
    if int(pandas.__version__.split(".")[0]) >= 3:
        pytest.skip(f"rliable.library needs arch < 8, which does not import with pandas {pandas.__version__}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("rliable.library")


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _matrices(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two methods, every third with ties, as many tasks and from one to 11 seeds."""
    rng = _rng(seed)
    seeds_x, seeds_y, tasks = (int(n) for n in rng.integers(1, [12, 12, 9]))
    x, y = rng.normal(size=(seeds_x, tasks)), rng.normal(0.3, 1.5, size=(seeds_y, tasks))
    return (x.round(), y.round()) if seed % 3 == 0 else (x, y)


# --- values


@pytest.mark.parametrize("seed", range(60))
def test_aggregates(seed: int) -> None:
    x, y = _matrices(seed)
    close = {"rel": 1e-10, "abs": 1e-10}
    assert iqm(x) == pytest.approx(metrics.aggregate_iqm(x), **close)
    assert np.mean(x) == pytest.approx(metrics.aggregate_mean(x), **close)
    assert median_of_task_means(x) == pytest.approx(metrics.aggregate_median(x), **close)
    assert optimality_gap(x) == pytest.approx(metrics.aggregate_optimality_gap(x), **close)
    assert optimality_gap(x, gamma=-0.4) == pytest.approx(metrics.aggregate_optimality_gap(x, -0.4), **close)
    assert probability_of_improvement(x, y) == pytest.approx(metrics.probability_of_improvement(x, y), **close)


@pytest.mark.parametrize("seed", range(20))
def test_profiles(library: Any, seed: int) -> None:
    x, _ = _matrices(seed)
    taus = np.sort(np.append(TAUS, x[0]))  # with ties
    theirs = library.score_distributions(x, taus)
    np.testing.assert_allclose(performance_profile(x, taus), theirs, rtol=0, atol=1e-10)


# --- intervals


class _TheirDraws:
    """Draws what rliable draws, from NumPy's global generator, which is the one that it uses."""

    def integers(self, high: int, size: tuple[int, ...]) -> np.ndarray:
        return np.stack([np.random.choice(high, size[1:], replace=True) for _ in range(size[0])])


def _theirs(library: Any, data: Any, function: Callable[..., Any], confidence: float = 0.95) -> np.ndarray:
    """The ends of rliable's interval, (2,) or (2, K)."""
    np.random.seed(14)
    _, intervals = library.get_interval_estimates(
        {"a": data},
        lambda *scores: np.atleast_1d(function(*scores)),
        reps=RESAMPLES,
        confidence_interval_size=confidence,
    )
    return np.asarray(intervals["a"]).squeeze()


STATISTICS = {
    "iqm": (iqm, "aggregate_iqm", {}),
    "mean": (np.mean, "aggregate_mean", {}),
    "median": (median_of_task_means, "aggregate_median", {}),
    "optimality gap": (optimality_gap, "aggregate_optimality_gap", {}),
    "optimality gap to 2": (partial(optimality_gap, gamma=2.0), "aggregate_optimality_gap", {"gamma": 2.0}),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_their_draws_give_their_interval(library: Any, name: str) -> None:
    ours, theirs, values = STATISTICS[name]
    scores = _rng(12).normal(size=(10, 5))
    expected = _theirs(library, scores, partial(getattr(metrics, theirs), **values), confidence=0.9)
    np.random.seed(14)
    draws: Any = _TheirDraws()
    found = stratified_bootstrap_interval(scores, ours, confidence=0.9, resamples=RESAMPLES, rng=draws)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_their_draws_of_differences_give_the_paired_interval(library: Any) -> None:
    x, y = _rng(12).normal(size=(8, 5)), _rng(13).normal(0.3, size=(8, 5))
    # As differences: of a third axis, such as [x, y], rliable would draw the seeds of each entry apart.
    expected = _theirs(library, x - y, metrics.aggregate_mean)
    np.random.seed(14)
    draws: Any = _TheirDraws()
    found = paired_difference(x, y, resamples=RESAMPLES, rng=draws)
    np.testing.assert_allclose(found.interval, expected, rtol=1e-10, atol=1e-10)
    assert found.difference == pytest.approx(metrics.aggregate_mean(x) - metrics.aggregate_mean(y), rel=1e-10)


def _agree(theirs: np.ndarray, ours: Callable[[float], Any]) -> None:
    """Their 95 % interval holds ours of slightly less confidence, and ours of slightly more holds theirs.

    The share of R resamples below a fixed number has a standard error of sqrt(p (1 - p) / R), the difference of two
    such shares sqrt(2) times that. The tails give way by four of those, 0.016 at R = 3000, whatever is resampled.
    """
    tail = 0.025
    four_errors = 4 * np.sqrt(2 * tail * (1 - tail) / RESAMPLES)
    inner, outer = (np.asarray(ours(1 - 2 * (tail + sign * four_errors))) for sign in (1, -1))
    rounding = 1e-12
    assert np.all(outer[0] - rounding <= theirs[0])
    assert np.all(theirs[0] <= inner[0] + rounding)
    assert np.all(inner[1] - rounding <= theirs[1])
    assert np.all(theirs[1] <= outer[1] + rounding)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("seeds", [3, 10])
def test_intervals(library: Any, name: str, seeds: int) -> None:
    ours, theirs, values = STATISTICS[name]
    scores = _rng(seeds).normal(size=(seeds, 5))
    _agree(
        _theirs(library, scores, partial(getattr(metrics, theirs), **values)),
        lambda c: stratified_bootstrap_interval(scores, ours, confidence=c, resamples=RESAMPLES, rng=_rng(0)),
    )


def test_intervals_of_the_probability_of_improvement(library: Any) -> None:
    x, y = _rng(12).normal(size=(10, 5)), _rng(13).normal(0.3, size=(8, 5))
    _agree(
        _theirs(library, (x, y), metrics.probability_of_improvement),
        lambda c: probability_of_improvement_interval(x, y, confidence=c, resamples=RESAMPLES, rng=_rng(0)),
    )


@pytest.mark.parametrize("name", ["iqm", "mean", "median"])
def test_intervals_of_unpaired_differences(library: Any, name: str) -> None:
    ours, theirs, _ = STATISTICS[name]
    x, y = _rng(12).normal(size=(10, 5)), _rng(13).normal(0.3, size=(8, 5))
    aggregate = getattr(metrics, theirs)
    assert difference(x, y, ours, rng=_rng(0)).difference == pytest.approx(aggregate(x) - aggregate(y), rel=1e-10)
    _agree(
        _theirs(library, (x, y), lambda a, b: aggregate(a) - aggregate(b)),
        lambda c: difference(x, y, ours, confidence=c, resamples=RESAMPLES, rng=_rng(0)).interval,
    )


@pytest.mark.parametrize("seeds", [3, 10])
def test_bands_of_profiles(library: Any, seeds: int) -> None:
    scores = _rng(seeds).normal(size=(seeds, 5))
    np.random.seed(14)
    profiles, bands = library.create_performance_profile({"a": scores}, TAUS, reps=RESAMPLES)
    np.testing.assert_allclose(performance_profile(scores, TAUS), profiles["a"], rtol=0, atol=1e-10)
    _agree(
        bands["a"],
        lambda c: performance_profile_interval(scores, TAUS, confidence=c, resamples=RESAMPLES, rng=_rng(0)),
    )
