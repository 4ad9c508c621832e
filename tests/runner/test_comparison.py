"""What changed between two runs: verdicts, intervals of exact small cases, and the command's exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from entroreg.benchmarks.cli import main
from entroreg.benchmarks.comparison import Change, as_text, changes, is_regression
from entroreg.benchmarks.errors import UserError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
Scores = dict[int, float | None]
Summary = dict[str, Any]


def _summary(suite: str, cells: list[dict[str, Any]], failed: list[dict[str, Any]] = [], **more: Any) -> Summary:  # noqa: B006
    return {"suite": suite, "preset": "smoke", "cells": cells, "failed": failed, **more}


def _learned(methods: dict[str, Scores], suite: str = "sac", **more: Any) -> Summary:
    """Of a suite whose results are returns, by seed; a seed of None failed."""
    of = [
        {"task": "T", "method": m, "seed": s, "score": score}
        for m, its in methods.items()
        for s, score in its.items()
    ]
    done = [{**cell, **more} for cell in of if cell["score"] is not None]
    return _summary(suite, done, [cell for cell in of if cell["score"] is None])


def _timed(**step_ms: list[float]) -> Summary:
    return _summary("sac-speed", [{"task": "T", "rounds": {"step_ms": step_ms, "update_ms": {}}}])


def _found(a: Summary, b: Summary, tolerance: float = 0.0) -> list[Change]:
    return changes({"x": a}, {"y": b}, tolerance)


def _one(a: Summary, b: Summary, tolerance: float = 0.0) -> Change:
    (found,) = _found(a, b, tolerance)
    return found


def _scores(a: Scores, b: Scores, tolerance: float = 0.0) -> Change:
    return _one(_learned({"m": a}), _learned({"m": b}), tolerance)


# --- scores


@pytest.mark.parametrize(
    ("b", "verdict", "change", "interval"),
    [
        # The mean of two resampled differences is the least or the greatest in a quarter of the resamples each, so
        # that the 95 % percentile interval ends at them exactly.
        ({0: 14.0, 1: 52.0}, "better", 3.0, (2.0, 4.0)),
        ({0: 9.0, 1: 45.0}, "worse", -3.0, (-5.0, -1.0)),
        ({0: 9.0, 1: 54.0}, "no difference shown", 1.5, (-1.0, 4.0)),
        ({0: 10.0, 1: 54.0}, "no difference shown", 2.0, (0.0, 4.0)),
        ({0: 10.0, 1: 50.0}, "no difference shown", 0.0, (0.0, 0.0)),
    ],
)
def test_equal_seeds_are_compared_in_pairs(
    b: Scores, verdict: str, change: float, interval: tuple[float, float]
) -> None:
    found = _scores({0: 10.0, 1: 50.0}, b)
    assert (found.verdict, found.change, found.interval) == (verdict, change, interval)
    assert (found.suite, found.task, found.method, found.unit) == ("sac", "T", "m", "")
    assert found.quantity == "return of the greedy policy"
    assert found.seeds == ("2 of 2 seeds", "2 of 2 seeds")


def test_pairs_are_of_one_seed_in_whatever_order() -> None:
    found = _scores({0: 10.0, 1: 50.0}, {1: 52.0, 0: 14.0})
    assert (found.change, found.interval) == (3.0, (2.0, 4.0))


def test_other_seeds_are_compared_unpaired() -> None:
    # Of two seeds each, the extremes come in 1 of 16 resamples: again the ends of the interval.
    found = _scores({0: 10.0, 1: 50.0}, {0: 14.0, 2: 52.0})
    assert (found.change, found.interval) == (3.0, (14.0 - 50.0, 52.0 - 10.0))
    assert found.verdict == "no difference shown"
    better = _scores({0: 1.0, 1: 2.0}, {2: 4.0, 3: 7.0})
    assert (better.verdict, better.change, better.interval) == ("better", 4.0, (2.0, 6.0))


def test_a_seed_that_failed_in_both_leaves_no_pair_for_it() -> None:
    found = _scores({0: 10.0, 1: 50.0, 2: None}, {0: 14.0, 1: 52.0, 2: None})
    assert (found.verdict, found.interval) == ("better", (2.0, 4.0))
    assert found.seeds == ("2 of 3 seeds", "2 of 3 seeds")


def test_values_are_interquartile_means() -> None:
    a = {seed: float(seed**3) for seed in range(8)}
    b = {seed: 100.0 + seed**2 for seed in range(8)}
    found = _scores(a, b)
    assert found.a == pytest.approx(stats.trim_mean(list(a.values()), 0.25))
    assert found.b == pytest.approx(stats.trim_mean(list(b.values()), 0.25))


def test_the_change_of_pairs_is_that_of_the_values_shown() -> None:
    found = _scores(dict.fromkeys(range(4), 0.0), {0: 1.0, 1: 1.0, 2: 1.0, 3: -100.0})
    assert found.a is not None
    assert found.b is not None
    assert found.change == pytest.approx(found.b - found.a)


def test_lower_errors_are_better() -> None:
    def errors(low: float) -> Summary:
        cells = [
            {"task": "T", "method": "m", "seed": seed, "score": low + seed, "batch_ms": 1.0} for seed in (0, 1)
        ]
        return _summary("image-adaptation", cells)

    by_name = {change.quantity: change.verdict for change in _found(errors(5.0), errors(3.0))}
    assert by_name == {"error over the stream": "better", "batch": "no difference shown"}
    assert {change.verdict for change in _found(errors(3.0), errors(5.0))} == {"worse", "no difference shown"}


@pytest.mark.parametrize(
    ("tolerance", "verdict"), [(0.0, "better"), (0.1, "better"), (0.1001, "no difference shown")]
)
def test_below_the_tolerance_nothing_is_shown(tolerance: float, verdict: str) -> None:
    found = _scores({0: -40.0, 1: -40.0}, {0: -37.0, 1: -35.0}, tolerance)  # by 4 of 40
    assert (found.change, found.verdict) == (4.0, verdict)


def test_of_zero_every_change_is_above_the_tolerance() -> None:
    assert _scores({0: 0.0, 1: 0.0}, {0: 1e-3, 1: 1e-3}, 5.0).verdict == "better"
    assert _scores({0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0}).verdict == "no difference shown"
    assert _scores({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}).change == -1.0


def test_one_seed_shows_nothing() -> None:
    found = _scores({0: 1.0}, {0: 100.0})
    assert (found.verdict, found.change, found.interval) == ("no difference shown", 99.0, None)


@pytest.mark.parametrize(
    ("a", "b", "verdict", "seeds"),
    [
        ({0: 1.0, 1: 1.0, 2: 1.0}, {0: 9.0, 1: 9.0, 2: None}, "failed", ("3 of 3 seeds", "2 of 3 seeds")),
        ({0: 1.0, 1: 1.0}, {0: None, 1: None}, "failed", ("2 of 2 seeds", "0 of 2 seeds")),
        ({0: 1.0, 1: 1.0, 2: None}, {0: 9.0, 1: None, 2: 9.0}, "better", ("2 of 3 seeds", "2 of 3 seeds")),
        ({0: 1.0, 1: 1.0, 2: None}, {0: 9.0, 1: 9.0, 2: 9.0}, "better", ("2 of 3 seeds", "3 of 3 seeds")),
        # fewer seeds were asked for, and none of them failed
        ({0: 1.0, 1: 1.0, 2: 1.0}, {0: 9.0, 1: 9.0}, "better", ("3 of 3 seeds", "2 of 2 seeds")),
        ({0: None, 1: None}, {0: None, 1: None}, "no difference shown", ("0 of 2 seeds", "0 of 2 seeds")),
        ({0: None, 1: None}, {0: 1.0, 1: 1.0}, "no difference shown", ("0 of 2 seeds", "2 of 2 seeds")),
    ],
)
def test_seeds_that_are_missing(a: Scores, b: Scores, verdict: str, seeds: tuple[str, str]) -> None:
    other: Scores = {0: 5.0, 1: 5.0}
    found, same = _found(_learned({"m": a, "other": other}), _learned({"m": b, "other": other}))
    if found.method != "m":
        found, same = same, found
    assert (found.verdict, found.seeds) == (verdict, seeds)
    assert same.verdict == "no difference shown"
    if not any(value is not None for value in b.values()):
        assert (found.b, found.change, found.interval) == (None, None, None)


def test_methods_that_only_one_run_has() -> None:
    two: Scores = {0: 1.0, 1: 2.0}
    gone, kept, new = _found(_learned({"gone": two, "kept": two}), _learned({"new": two, "kept": two}))
    assert [c.method for c in (gone, kept, new)] == ["gone", "kept", "new"]
    assert (gone.verdict, gone.seeds, gone.b, gone.change) == ("only in A", ("2 of 2 seeds", "none"), None, None)
    assert kept.verdict == "no difference shown"
    assert (new.verdict, new.seeds, new.a, new.b) == ("only in B", ("none", "2 of 2 seeds"), None, 1.5)
    assert [is_regression(change) for change in (gone, kept, new)] == [True, False, False]


# --- times


@pytest.mark.parametrize(
    ("b", "verdict"),
    [([2.0, 1.5, 1.0], "faster"), ([9.0, 8.0, 30.0], "slower"), ([4.5, 3.9, 5.2], "no difference shown")],
)
def test_the_ratio_of_times_is_that_of_the_medians(b: list[float], verdict: str) -> None:
    a = [4.0, 5.0, 4.5]
    found = _one(_timed(m=a), _timed(m=b))
    assert (found.a, found.b, found.unit) == (4.5, sorted(b)[1], "ms")
    assert found.change == pytest.approx(sorted(b)[1] / 4.5)
    assert found.interval is not None
    # The least of three is their resamples' median with probability 7/27, and both at once with 0.067 > 0.025.
    assert found.interval == pytest.approx((min(b) / 5.0, max(b) / 4.0))
    assert (found.verdict, found.seeds) == (verdict, ("3 of 3 rounds", "3 of 3 rounds"))


def test_the_ratio_of_times_is_that_of_the_medians_of_an_even_number() -> None:
    found = _one(_timed(m=[1.0, 9.0]), _timed(m=[4.0, 4.0]))
    assert (found.a, found.b) == (5.0, 4.0)
    assert found.change == pytest.approx(0.8)


def test_the_tolerance_of_times_is_of_their_ratio() -> None:
    a, b = _timed(m=[4.0] * 3), _timed(m=[4.4] * 3)
    assert [_one(a, b, tolerance).verdict for tolerance in (0.0, 0.09, 0.11)] == [
        "slower",
        "slower",
        "no difference shown",
    ]


def test_more_steps_in_a_second_are_faster() -> None:
    a = _learned({"m": {0: 1.0, 1: 1.0}}, train_steps_per_second=100.0)
    b = _learned({"m": {0: 1.0, 1: 1.0}}, train_steps_per_second=150.0)
    score, speed = _found(a, b)
    assert score.verdict == "no difference shown"
    assert (speed.verdict, speed.change, speed.unit) == ("faster", pytest.approx(1.5), "1/s")
    assert _found(b, a)[1].verdict == "slower"


def test_a_time_of_zero_is_no_obstacle() -> None:
    assert _one(_timed(m=[0.0] * 3), _timed(m=[1.0] * 3)).verdict in ("slower", "no difference shown")


# --- which rows are compared


def test_runs_without_a_suite_in_common_are_refused() -> None:
    a, b = _learned({"m": {0: 1.0}}), _learned({"m": {0: 1.0}}, suite="sac-mujoco")
    with pytest.raises(UserError, match=r"same preset, got sac \(smoke\) and sac-mujoco \(smoke\): run one of"):
        _found(a, b)
    with pytest.raises(UserError, match=r"got sac \(smoke\) and sac \(small\)"):
        _found(a, {**a, "preset": "small"})
    both = changes({"a": a, "other": b}, {"a": a})
    assert [change.suite for change in both] == ["sac"]
    with pytest.raises(UserError, match=r"tolerance must be at least 0 and at most 1e\+06, got -0\.1"):
        _found(a, a, -0.1)


def test_a_run_of_which_everything_failed_is_a_regression() -> None:
    found = _found(_learned({"m": {0: 1.0, 1: 1.0}}), _learned({"m": {0: None, 1: None}}))
    assert any(map(is_regression, found))


def test_what_is_printed() -> None:
    a = _learned({"same": {0: 1.0, 1: 2.0}, "m": {0: 10.0, 1: 50.0}, "less": {0: 1.0, 1: 1.0}})
    b = _learned({"same": {0: 1.0, 1: 2.0}, "m": {0: 14.0, 1: 52.0}, "less": {0: 1.0, 1: None}})
    assert as_text(_found(a, b)).splitlines() == [
        "sac: T",
        "  m                        return of the greedy policy: 30 -> 33   +3 [2, 4]   better "
        "(2 of 2 seeds, too few to tell)",
        "  less                     return of the greedy policy: 1 -> 1   +0   failed "
        "(2 of 2 seeds and 1 of 2 seeds)",
        "  same                     return of the greedy policy: 1.5 -> 1.5   +0 [0, 0]   no difference shown "
        "(2 of 2 seeds, too few to tell)",
        "1 better, 1 failed, 1 no difference shown",
    ]
    ratio = "training step: 4 -> 6 ms   x1.5 [1.5, 1.5]   slower (2 of 2 rounds, too few to tell)"
    line = f"  m                        {ratio}"
    assert as_text(_found(_timed(m=[4.0] * 2), _timed(m=[6.0] * 2))).splitlines()[1] == line


def test_a_ratio_is_printed_as_one() -> None:
    text = as_text(_found(_timed(m=[4.0] * 2), _timed(m=[4.0] * 2)))
    assert "x1 [1, 1]" in text


# --- the command


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Of a run A, and of B in which one method is better and one worse."""
    a = _learned({"up": dict.fromkeys(range(3), 1.0), "down": {0: 9.0, 1: 10.0, 2: 9.5}})
    b = _learned({"up": dict.fromkeys(range(3), 2.0), "down": {0: 9.0 - 0.5, 1: 10.0 - 0.5, 2: 9.0}})
    for name, summary in (("a", a), ("b", b)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sac.json").write_text(json.dumps(summary))
        (tmp_path / name / "other.json").write_text('{"no": "summary"}')
    return str(tmp_path / "a"), str(tmp_path / "b")


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ([], 0),
        (["--fail-on", "nothing"], 0),
        (["--fail-on", "regression"], 1),
        (["--fail-on", "regression", "--tolerance", "0.06"], 0),
        (["--tolerance", "-1"], 2),
    ],
)
def test_the_exit_code_says_whether_something_got_worse(
    folders: tuple[str, str], flags: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *folders, *flags]) == code
    if code != 2:
        assert "better (3 of 3 seeds)" in capsys.readouterr().out
    assert main(["compare", folders[0], folders[0], "--fail-on", "regression"]) == 0


def test_changes_as_json(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *folders, "--json"]) == 0
    up, down = json.loads(capsys.readouterr().out)
    assert up == {
        "suite": "sac",
        "task": "T",
        "method": "up",
        "quantity": "return of the greedy policy",
        "unit": "",
        "is_ratio": False,
        "a": 1.0,
        "b": 2.0,
        "seeds": ["3 of 3 seeds", "3 of 3 seeds"],
        "change": 1.0,
        "interval": [1.0, 1.0],
        "few": False,
        "verdict": "better",
    }
    assert (down["verdict"], down["change"], down["interval"]) == ("worse", -0.5, [-0.5, -0.5])


def test_what_cannot_be_compared(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for b, message in (
        (tmp_path / "empty", "must hold results of 'entroreg bench run', got none: give its --out folder"),
        (tmp_path / "none", "must be a folder of results, got none"),
    ):
        assert main(["compare", folders[0], str(b)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "b" / "sac.json").write_text(json.dumps(_learned({"m": {0: 1.0}}, suite="sac-mujoco")))
    assert main(["compare", *folders]) == 2
    assert "both runs must have a suite with the same preset" in capsys.readouterr().err
