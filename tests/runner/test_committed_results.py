"""Every committed result file says where it came from, and its statistics follow from what was measured."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import trim_mean

from entroreg.benchmarks.trust.verdict import broken_promises

RESULTS = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.json"))


def test_there_are_results() -> None:
    assert RESULTS


@pytest.mark.parametrize("path", sorted(RESULTS[0].parent.glob("gpu/*.json")), ids=lambda path: path.stem)
def test_a_figure_of_a_gpu_can_be_traced(path: Path) -> None:
    result: dict[str, Any] = json.loads(path.read_text())
    provenance = result["provenance"]
    assert re.fullmatch("[0-9a-f]{40}", provenance["commit"])
    assert provenance["dirty"] is False
    assert provenance["gpu"]
    assert provenance["packages"]["torch"]
    assert provenance["command"]
    assert result["result"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_file_can_be_traced_and_recomputed(path: Path) -> None:
    result: dict[str, Any] = json.loads(path.read_text())
    provenance = result["provenance"]
    assert re.fullmatch("[0-9a-f]{40}", provenance["commit"])
    assert provenance["dirty"] is False
    assert provenance["packages"]["torch"]
    assert provenance["command"]
    assert provenance["cpu"]
    assert result["failed"] == []
    assert result["cells"]
    recompute = {
        "adaptation": _recompute_episodes,
        "curriculum": _recompute_problems,
        "distillation": _recompute_accuracies,
        "image-adaptation": _recompute_streams,
        "mil": _recompute_mil,
        "mil-speed": _recompute_mil_speed,
        "overhead": _check_rounds,
        "rlvr": _recompute_controls,
        "robust": _recompute_robust,
        "robust-speed": _recompute_views,
        "sac-speed": _recompute_speed,
        "token-entropy": _recompute_times,
        "trust": _recompute_kills,
    }
    recompute.get(result["suite"], _recompute_scores)(result)


def _check_rounds(result: dict[str, Any]) -> None:
    """Nothing is computed of these: they are all that was measured."""
    for cell in result["cells"]:
        assert {len(turns) for turns in cell["rounds"].values()} == {7}
        assert cell["cells"] == 100


def _recompute_scores(result: dict[str, Any]) -> None:
    for task, rows in result["tasks"].items():
        for row in rows:
            cells = [cell for cell in result["cells"] if (cell["task"], cell["method"]) == (task, row["method"])]
            assert row["scores"] == [cell["score"] for cell in cells]
            assert row["done"] == row["seeds"] == len({cell["seed"] for cell in cells})
            assert row["iqm"] == pytest.approx(trim_mean(row["scores"], 0.25))
            assert row["interval"][0] <= row["iqm"] <= row["interval"][1]


def _recompute_robust(result: dict[str, Any]) -> None:
    for task, measures in result["tasks"].items():
        first = next(iter(measures.values()))[0]["method"]
        assert first == "qarl"
        for measure, rows in measures.items():
            for row in rows:
                cells = [
                    cell for cell in result["cells"] if (cell["task"], cell["method"]) == (task, row["method"])
                ]
                assert row["scores"] == [cell[measure] for cell in cells]
                assert row["done"] == row["seeds"] == len({cell["seed"] for cell in cells})
                assert row["iqm"] == pytest.approx(trim_mean(row["scores"], 0.25))
                assert (row["interval"] is None) == (row["seeds"] == 1)
                low, high = row["interval"] or (row["iqm"], row["iqm"])
                assert low <= row["iqm"] <= high
    for cell in result["cells"]:
        grid = np.array(cell["grid"]["returns"])
        assert cell["grid_mean"] == pytest.approx(grid.mean())
        assert cell["grid_worst"] == grid.min()
        assert bool(cell["curriculum"]) == (cell["method"] == "qarl")


def _recompute_views(result: dict[str, Any]) -> None:
    for cell in result["cells"]:
        if cell["method"] == "views":
            plain = np.array(cell["rounds"]["plain"])
            for name, quartiles in cell["speed_over_plain"].items():
                ratios = plain / np.array(cell["rounds"][name])
                assert quartiles == pytest.approx(list(np.quantile(ratios, [0.25, 0.5, 0.75])))
        else:
            for name, median in cell["medians"].items():
                assert median == pytest.approx(np.median([row[name] for row in cell["rows"]]))


def _recompute_problems(result: dict[str, Any]) -> None:
    (cell,) = result["cells"]
    problems = cell["problems"]
    ratios = [problem["scipy"]["seconds"] / problem["ours"]["seconds"] for problem in problems]
    assert cell["speed_ratio"]["median"] == pytest.approx(np.median(ratios), abs=1e-3)
    assert cell["two_pieces"] == sum(problem["pieces"] >= 2 for problem in problems) > 0
    for name, other in (("ours", "scipy"), ("scipy", "ours")):
        assert cell[f"{name}_infeasible"] == sum(not problem[name]["feasible"] for problem in problems)
        pairs = [
            (problem[name]["objective"], problem[other]["objective"])
            for problem in problems
            if problem[other]["feasible"]
        ]
        assert cell[f"{name}_worse"] == sum(mine > best + 1e-6 * max(1.0, best) for mine, best in pairs)


def _recompute_episodes(result: dict[str, Any]) -> None:
    """Rates, differences and AUROC follow from the outcome of each episode."""
    assert len(result["cells"]) == sum(row["done"] for rows in result["tasks"].values() for row in rows)
    for task, rows in result["tasks"].items():
        cells = {(cell["method"], cell["seed"]): cell for cell in result["cells"] if cell["task"] == task}
        for row in rows:
            own = [cell for (method, _), cell in cells.items() if method == row["method"]]
            success = np.concatenate([cell["success"] for cell in own])
            assert row["episodes"] == len(success) >= 200
            assert row["success"]["rate"] == pytest.approx(success.mean())
            assert row["collision"]["rate"] == pytest.approx(np.mean([cell["collision"] for cell in own]))
            plain = np.concatenate([cells["none", cell["seed"]]["success"] for cell in own])
            assert row["difference"]["mean"] == pytest.approx(success.mean() - plain.mean())
            for name, area in row["auroc"].items():
                values = np.concatenate([cell["uncertainty"][name] for cell in own])
                pairs = values[~success][:, None] - values[success]
                assert area == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def _recompute_streams(result: dict[str, Any]) -> None:
    _recompute_scores(result)
    for task, methods in result["streams"].items():
        for method, row in methods.items():
            cells = [cell for cell in result["cells"] if (cell["task"], cell["method"]) == (task, method)]
            assert row["error"] == [cell["error"] for cell in cells]
            plain = [cell for cell in result["cells"] if (cell["task"], cell["method"]) == (task, "none")]
            if method == "memo":  # of fewer images
                assert row["difference"] == []
            else:
                expected = [a["error"] - b["error"] for a, b in zip(cells, plain, strict=True)]
                assert row["difference"] == pytest.approx(expected)
            assert row["collapsed"] == [cell["largest_class_share"] > 0.5 for cell in cells]


def _recompute_accuracies(result: dict[str, Any]) -> None:
    _recompute_scores(result)
    for task, methods in result["methods"].items():
        for method, row in methods.items():
            cells = [cell for cell in result["cells"] if (cell["task"], cell["method"]) == (task, method)]
            for name, values in row["accuracy"].items():
                assert values == [cell["accuracy"][name] for cell in cells]
                assert row["interval"][name][0] - 1e-5 <= np.mean(values) <= row["interval"][name][1] + 1e-5
        for pair, differences in result["differences"][task].items():
            ours, theirs = pair.split(" - ")
            for name, values in differences.items():
                expected = np.subtract(methods[ours]["accuracy"][name], methods[theirs]["accuracy"][name])
                assert values == pytest.approx(list(expected))
        assert result["void"][task] == {}


def _recompute_controls(result: dict[str, Any]) -> None:
    _recompute_scores(result)
    cells = {(cell["method"], cell["seed"]): cell for cell in result["cells"]}
    kept = {key: cell["final"]["entropy"] / cell["start"]["entropy"] for key, cell in cells.items()}
    seeds = {seed for _, seed in cells}
    assert result["entropy_lost"] == pytest.approx({str(seed): 1.0 - kept["none", seed] for seed in seeds})
    assert set(result["void_seeds"]) == {seed for seed in seeds if 1.0 - kept["none", seed] < 0.7}
    for part, counted in (("controls", seeds - set(result["void_seeds"])), ("controls_all", seeds)):
        for control, row in result[part].items():
            assert set(row["seeds"]) == counted
            assert row["entropy_kept"] == pytest.approx([kept[control, seed] for seed in row["seeds"]])
            for name, differences in row["difference"].items():
                pairs = [(cells[control, seed]["final"], cells["none", seed]["final"]) for seed in row["seeds"]]
                assert differences == pytest.approx([ours[name] - theirs[name] for ours, theirs in pairs])


def _recompute_mil(result: dict[str, Any]) -> None:
    _recompute_scores(result)
    cells = {(cell["task"], cell["method"], cell["seed"]): cell["metrics"] for cell in result["cells"]}
    for task, methods in result["methods"].items():
        for method, row in methods.items():
            plain = f"{method.partition('+')[0]}+none"
            for name, differences in row["difference"].items():
                pairs = [(cells[task, method, seed], cells[task, plain, seed]) for seed in row["seeds"]]
                expected = [] if method == plain else [ours[name] - theirs[name] for ours, theirs in pairs]
                assert differences == pytest.approx(expected)


def _recompute_mil_speed(result: dict[str, Any]) -> None:
    for cell in result["cells"]:
        for name, seconds in cell.get("rounds", {}).items():
            ours = cell["rounds"]["entroreg"]
            ratio = statistics.median(value / our for value, our in zip(seconds, ours, strict=True))
            assert cell["methods"][name]["time_over_entroreg"]["median"] == pytest.approx(ratio, abs=1e-3)


def _recompute_kills(result: dict[str, Any]) -> None:
    """Totals follow from each kill and each run, and what we promise is kept."""
    killed = [cell for cell in result["cells"] if "totals" in cell]
    for cell in killed:
        totals, kills = cell["totals"], cell["kills"]
        runs = [one for one in cell["runs"] if one["kills"]]
        assert totals["kills"] == len(kills) == sum(one["kills"] for one in runs) == cell["plan"]["kills"]
        assert totals["runs"] == len({kill["run"] for kill in kills})
        assert totals["resumed"] == [kill["resumed"] for kill in kills].count(True)
        assert totals["inside_save"] == [kill["inside_save"] for kill in kills].count(True)
        assert totals["identical"] == [one["differs"] for one in runs].count([])
        assert (totals["corrupt"] > 0) == any(kill["corrupt"] for kill in kills)
    ours = [cell["totals"] for cell in killed if cell["method"] == "entroreg"]
    assert sum(totals["kills"] for totals in ours) >= 200
    assert sum(totals["inside_save"] for totals in ours) >= 50
    assert broken_promises(result) == []
    (windows,) = (cell for cell in result["cells"] if "steps_lost" in cell)
    pauses = windows["rounds"]["pause_seconds"]["checkpoint-a-window"]
    assert windows["pause_share_of_a_minute"] == pytest.approx(statistics.median(pauses) / 60)
    rates = windows["rounds"]["steps_per_second"]
    pairs = zip(rates["checkpoint-a-window"], rates["no-checkpoint"], strict=True)
    assert windows["steps_lost"] == pytest.approx([1 - one / none for one, none in pairs])


def _recompute_times(result: dict[str, Any]) -> None:
    for cell in result["cells"]:
        ours = [turn["both"] for turn in cell["rounds"]["entroreg"]]
        for name, turns in cell["rounds"].items():
            row, both = cell["methods"][name], [turn["both"] for turn in turns]
            ratios = [value / our for value, our in zip(both, ours, strict=True)]
            assert row["both_ms"]["median"] == pytest.approx(1000 * statistics.median(both), abs=1e-3)
            assert row["time_over_entroreg"]["median"] == pytest.approx(statistics.median(ratios), abs=1e-3)
            assert row["extra_mb"] >= 0.0


def _recompute_speed(result: dict[str, Any]) -> None:
    for cell in result["cells"]:
        steps, updates = cell["rounds"]["step_ms"], cell["rounds"]["update_ms"]
        for name, values in steps.items():
            row = cell["methods"][name]
            assert len(values) == cell["plan"]["rounds"]
            assert row["versions"]
            assert row["step_ms"] == pytest.approx(_spread(values))
            assert row["steps_per_second"] == pytest.approx(1000 / statistics.median(values))
            if name != "entroreg":
                ratios = [value / ours for value, ours in zip(values, steps["entroreg"], strict=True)]
                assert row["time_over_entroreg"] == pytest.approx(_spread(ratios))
        for name, values in updates.items():
            row = cell["methods"][name]
            assert row["update_ms"] == pytest.approx(_spread(values))
            if name != "gemms":
                ratios = [value / floor for value, floor in zip(values, updates["gemms"], strict=True)]
                assert row["update_over_gemms"] == pytest.approx(_spread(ratios))


def _spread(values: list[float]) -> dict[str, float]:
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"min": min(values), "q1": q1, "median": median, "q3": q3, "max": max(values)}
