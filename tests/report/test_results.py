"""results.json: its schema, and numbers recomputed from the cells by other means."""

from __future__ import annotations

import copy
import json
import statistics
from importlib import resources

import numpy as np
import pytest
from scipy.stats import trim_mean

from entroreg.benchmarks.report_page import results_of, write_report

from .conftest import RESULTS, lost_cell, made_cell, made_summary

SPEEDS = {"sb3-sac": [50.0, 52.0, 49.0, 51.0, 50.0], "entroreg-sac": [99.0, 101.0, 100.0, 102.0, 98.0]}


def schema():
    return json.loads(
        resources.files("entroreg.benchmarks.report_page").joinpath("results.schema.json").read_text()
    )


def validator():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def measured(results, task, method, quantity):
    (suite,) = results["suites"]
    (found,) = [
        one
        for one in suite["measurements"]
        if (one["task"], one["method"], one["quantity"]["name"]) == (task, method, quantity)
    ]
    return found


def compared(suite, task, quantity):
    (found,) = [one for one in suite["comparisons"] if (one["task"], one["quantity"]) == (task, quantity)]
    return found


def test_committed_results_fit_the_schema(committed):
    results = json.loads(committed.files["json"].read_bytes())
    assert [suite["title"] for suite in results["suites"]] == committed.titles
    assert list(validator().iter_errors(results)) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), 2),
        (("suites", 0, "preset"), "large"),
        (("suites", 0, "measurements", 0, "interval"), [1.0]),
        (("suites", 0, "measurements", 0, "values"), {"first": 1.0}),
        (("suites", 0, "measurements", 0, "quantity", "better"), "bigger"),
        (("suites", 0, "comparisons", 0, "others", 0, "verdict"), "worse"),
        (("suites", 0, "cells", 0, "status"), "failed"),  # without its error
        (("suites", 0, "cells", 0, "further"), 1),
    ],
)
def test_schema_refuses(place, value):
    results = results_of([made_summary([made_cell("T", "a", 0, 1.0), made_cell("T", "b", 0, 2.0)])])
    assert validator().is_valid(results)
    inner = results
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert not validator().is_valid(results)


def test_scores_are_trimmed_means_of_the_cells(committed):
    results = json.loads(committed.files["json"].read_bytes())
    suite = results["suites"][committed.titles.index("sac_small")]
    cells = committed.summaries[committed.titles.index("sac_small")]["cells"]
    for method in ("entroreg-discrete-sac", "sb3-dqn"):
        scores = [cell["score"] for cell in cells if (cell["task"], cell["method"]) == ("CartPole-v1", method)]
        found = measured({"suites": [suite]}, "CartPole-v1", method, "return of the greedy policy")
        assert found["value"] == pytest.approx(trim_mean(scores, 0.25), abs=1e-9)
        assert found["done"] == found["expected"] == len(scores) == 5
        assert min(scores) <= found["interval"][0] <= found["value"] <= found["interval"][1] <= max(scores)
    comparison = compared(suite, "CartPole-v1", "return of the greedy policy")
    assert comparison["best"] == "entroreg-discrete-sac"
    assert comparison["others"][0]["verdict"] == "better"


def test_every_value_is_that_of_its_values(committed):
    results = json.loads(committed.files["json"].read_bytes())
    for suite in results["suites"]:
        for one in suite["measurements"]:
            values = list(one["values"].values())
            plain = statistics.median(values) if one["statistic"] == "median" else trim_mean(values, 0.25)
            assert one["value"] == pytest.approx(plain, rel=1e-12)
            over_seeds = one["quantity"]["over"] == "seed" and not one["quantity"]["is_time"]
            assert one["statistic"] == ("iqm" if over_seeds else "median")


def test_best_is_first_in_its_direction(committed):
    results = json.loads(committed.files["json"].read_bytes())
    for suite in results["suites"]:
        for comparison in suite["comparisons"]:
            found = {
                one["method"]: one
                for one in suite["measurements"]
                if (one["task"], one["quantity"]["name"]) == (comparison["task"], comparison["quantity"])
            }
            order = [comparison["best"], *(other["method"] for other in comparison["others"])]
            values = [found[method]["value"] for method in order]
            higher = found[order[0]]["quantity"]["better"] == "higher"
            assert values == sorted(values, reverse=higher)
            assert {*order, *comparison["bounds"], *comparison["without_result"]} == set(found)


def test_ratio_of_turns_is_the_median_over_rounds(committed):
    index = committed.titles.index("sac_speed_small")
    suite = json.loads(committed.files["json"].read_bytes())["suites"][index]
    rounds = committed.summaries[index]["cells"][0]["rounds"]["step_ms"]
    comparison = compared(suite, "HalfCheetah-v5-1-thread", "training step")
    best = min(rounds, key=lambda method: statistics.median(rounds[method]))
    assert comparison["best"] == best
    for other in comparison["others"]:
        ratios = [slow / fast for slow, fast in zip(rounds[other["method"]], rounds[best], strict=True)]
        assert other["kind"] == "ratio"
        assert other["paired"]
        assert other["value"] == pytest.approx(statistics.median(ratios), rel=1e-12)
        assert other["verdict"] == ("better" if other["interval"][0] > 1 else "no difference shown")


def test_rounds_of_separate_cells_are_no_pairs(committed):
    index = committed.titles.index("robust_speed_small")
    suite = json.loads(committed.files["json"].read_bytes())["suites"][index]
    (other,) = compared(suite, "HalfCheetah-v5 64x64", "QARL's iteration")["others"]
    assert not other["paired"]
    (views,) = {one["paired"] for one in compared(suite, "HalfCheetah-v5", "environment step")["others"]}
    assert views


def test_speeds_compare_by_their_ratio():
    cells = [
        made_cell("T", method, seed, 1.0, train_steps_per_second=speed)
        for method, speeds in SPEEDS.items()
        for seed, speed in enumerate(speeds)
    ]
    (suite,) = results_of([made_summary(cells)])["suites"]
    comparison = compared(suite, "T", "environment steps per second of training")
    assert comparison["best"] == "entroreg-sac"
    (other,) = comparison["others"]
    assert other["value"] == pytest.approx(100.0 / 50.0)
    assert other["interval"][0] > 1.5
    assert other["interval"][1] < 2.5
    assert other["verdict"] == "better"


def test_a_speed_of_zero_has_no_ratio():
    cells = [
        made_cell("T", m, s, 1.0, train_steps_per_second=0.0 if m == "b" else 5.0) for m in "ab" for s in (0, 1)
    ]
    (suite,) = results_of([made_summary(cells)])["suites"]
    (other,) = compared(suite, "T", "environment steps per second of training")["others"]
    assert (other["kind"], other["value"]) == ("difference", 5.0)


def test_difference_of_pairs_sees_what_seeds_do_to_both():
    """Both methods vary by 100 from seed to seed, together: pairs differ by 1 and no less."""
    level = [0.0, 100.0, 200.0, 300.0, 400.0]
    both = [made_cell("T", "a", s, x) for s, x in enumerate(level)]
    both += [made_cell("T", "b", s, x + 1.0) for s, x in enumerate(level)]
    apart = both[:5] + [made_cell("T", "b", s + 5, x + 1.0) for s, x in enumerate(level)]
    for cells, paired in ((both, True), (apart, False)):
        (suite,) = results_of([made_summary(cells)])["suites"]
        comparison = compared(suite, "T", "return of the greedy policy")
        (other,) = comparison["others"]
        assert comparison["best"] == "b"
        assert other["paired"] is paired
        assert other["value"] == pytest.approx(1.0)
        assert (other["verdict"] == "better") is paired
        assert other["interval"] == (
            [pytest.approx(1.0)] * 2 if paired else [pytest.approx(x, abs=60) for x in (-200, 200)]
        )


def test_lower_is_better_turns_the_difference():
    cells = [
        {"task": "T", "method": m, "seed": s, "score": x + s / 100, "batch_ms": 1.0}
        for m, x in (("none", 0.8), ("tent", 0.5))
        for s in range(3)
    ]
    summary = {**made_summary(cells), "suite": "image-adaptation"}
    (suite,) = results_of([summary])["suites"]
    comparison = compared(suite, "T", "error over the stream")
    assert comparison["best"] == "tent"
    assert comparison["others"][0]["value"] == pytest.approx(0.3)


def test_missing_seeds_count():
    cells = [made_cell("T", m, s, float(s)) for m in "ab" for s in range(5) if (m, s) != ("b", 3)]
    failed = (lost_cell("T", "b", 3, "boom"), *(lost_cell("T", "c", s, None) for s in range(5)))
    results = results_of([made_summary(cells, failed)])
    found = measured(results, "T", "b", "return of the greedy policy")
    assert (found["done"], found["expected"], sorted(found["values"])) == (4, 5, ["0", "1", "2", "4"])
    nothing = measured(results, "T", "c", "return of the greedy policy")
    assert (nothing["done"], nothing["value"], nothing["interval"]) == (0, None, None)
    (suite,) = results["suites"]
    comparison = compared(suite, "T", "return of the greedy policy")
    assert comparison["without_result"] == ["c"]
    assert not comparison["others"][0]["paired"]
    statuses = [(cell["method"], cell["status"], cell["error"]) for cell in suite["cells"]]
    assert statuses[-6:] == [("b", "failed", "boom")] + [("c", "missing", None)] * 5
    assert validator().is_valid(results)


def test_single_seed_shows_nothing():
    (suite,) = results_of([made_summary([made_cell("T", "a", 0, 1.0), made_cell("T", "b", 0, 9.0)])])["suites"]
    (other,) = compared(suite, "T", "return of the greedy policy")["others"]
    assert (other["value"], other["interval"], other["verdict"]) == (8.0, None, "no difference shown")


def test_bounds_are_no_rivals(monkeypatch):
    import entroreg.benchmarks.suites.sac as module

    monkeypatch.setattr(module, "BOUNDS", ("limit",), raising=False)
    cells = [made_cell("T", m, s, x + s) for m, x in (("a", 1.0), ("limit", 99.0)) for s in range(3)]
    (suite,) = results_of([made_summary(cells)])["suites"]
    comparison = compared(suite, "T", "return of the greedy policy")
    assert (comparison["best"], comparison["others"], comparison["bounds"]) == ("a", [], ["limit"])


def test_same_cells_same_bytes(committed, tmp_path):
    summary = copy.deepcopy(committed.summaries[committed.titles.index("sac_small")])
    first = write_report([summary], [RESULTS / "mil_small.png"], tmp_path / "a")
    second = write_report([summary], [RESULTS / "mil_small.png"], tmp_path / "b")
    assert all(first[kind].read_bytes() == second[kind].read_bytes() for kind in ("html", "markdown", "json"))


def test_two_summaries_of_a_suite_have_two_titles():
    summary = made_summary([made_cell("T", "a", 0, 1.0)])
    assert [suite["title"] for suite in results_of([summary, summary])["suites"]] == ["sac", "sac (2)"]
    with pytest.raises(ValueError, match="titles must be one for each of 2 summaries, got 1"):
        results_of([summary, summary], ["a"])


def test_false_alarms_are_as_often_as_the_page_says():
    """Of two equal methods, with 3 seeds each: about one in four."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        cells = [made_cell("T", m, s, float(rng.normal())) for m in "ab" for s in range(3)]
        (suite,) = results_of([made_summary(cells)])["suites"]
        alarms += suite["comparisons"][0]["others"][0]["verdict"] == "better"
    assert 0.17 < alarms / 200 < 0.33
