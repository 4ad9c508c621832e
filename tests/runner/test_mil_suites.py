"""Suites mil and mil-speed: whole smoke runs, summaries that follow from the cells, and methods that agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from entroreg.benchmarks.bench import as_text
from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.mil import report
from entroreg.benchmarks.mil_speed import measuring, methods
from entroreg.benchmarks.mil_speed.measuring import Bags, bag_step, rounds_of
from entroreg.benchmarks.suites import mil, mil_speed


def test_a_whole_run_of_mil(smoke: Callable[[str], dict[str, Any]]) -> None:
    summary = smoke("mil")
    assert summary["failed"] == []
    assert list(summary["methods"]["drawn"]) == list(mil.SMOKE["drawn"].methods)
    assert (summary["out"] / "mil" / "summary.png").stat().st_size > 10_000
    row = summary["methods"]["drawn"]["abmil+aem"]
    scores = {cell["method"]: cell for cell in summary["cells"]}
    difference = scores["abmil+aem"]["metrics"]["auroc"] - scores["abmil+none"]["metrics"]["auroc"]
    assert row["difference"]["auroc"] == [pytest.approx(difference)]
    assert scores["abmil+aem"]["attention"]["instance_auroc_bags"] > 0
    again = smoke("mil")  # nothing is run twice, and the data are not made twice
    assert again["cells"] == summary["cells"]


def _result(auroc: float, share: float) -> dict[str, Any]:
    return {
        "score": auroc,
        "metrics": {"auroc": auroc, "macro_f1": auroc - 0.1, "accuracy": auroc - 0.05, "calibration_error": 0.1},
        "attention": {"entropy": 2.0, "entropy_share": share, "instance_auroc": None, "instance_auroc_bags": 0},
        "train_seconds": 1.0,
    }


def test_summary_pairs_seeds(tmp_path: Path) -> None:
    scores = {"abmil+none": [0.8, 0.9], "abmil+aem": [0.85, 0.88], "abmil-sampled+none": [0.7, 0.7]}
    cells = []
    for method, values in scores.items():
        for seed, value in enumerate(values):
            cell = Cell("mil", "small", "musk1", method, seed)
            cell.folder(tmp_path).mkdir(parents=True)
            write_result(cell.folder(tmp_path), _result(value, 0.5))
            cells.append(cell)
    cells.append(Cell("mil", "small", "musk1", "abmil+aem", 2))  # not done
    summary = {"suite": "mil", "preset": "small", **report.summarise(cells, tmp_path)}
    rows = summary["methods"]["musk1"]
    assert rows["abmil+aem"]["difference"]["auroc"] == pytest.approx([0.05, -0.02])
    assert rows["abmil+none"]["difference"]["auroc"] == []
    assert rows["abmil-sampled+none"]["difference"]["auroc"] == []
    text = as_text(summary)
    assert "+0.015 [-0.020, +0.050]" in text
    assert "table 1: accuracy 0.892 +- 0.040" in text
    assert "not done: 1 cells" in text


def test_every_cell_has_its_settings() -> None:
    cells = mil.cells("small")
    assert {cell.method for cell in cells} == set(mil.METHODS)
    assert len(cells) == mil.SEEDS["small"] * sum(len(task.methods) for task in mil.TASKS.values())
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_a_whole_run_of_mil_speed(smoke: Callable[[str], dict[str, Any]]) -> None:
    summary = smoke("mil-speed")
    assert summary["failed"] == []
    timed, huge = summary["cells"]
    turns = zip(timed["rounds"]["loop"], timed["rounds"]["entroreg"], strict=True)
    ratios = sorted(loop / ours for loop, ours in turns)
    assert timed["methods"]["loop"]["time_over_entroreg"]["median"] == pytest.approx(ratios[1], abs=1e-3)
    assert set(huge["bags"]) == {"streamed", "whole"}
    assert "the matrix products alone" in as_text(summary)
    json.dumps(summary, default=str)


def test_methods_have_one_gradient() -> None:
    _, errors = rounds_of(Bags(6, 40, 0.8, 8, 16), rounds=1)
    assert errors.keys() >= {"entroreg", "padded", "loop"}
    assert max(errors.values()) < 1e-6


def test_gemms_are_those_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many multiplications as the packed step has in its matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(methods, "PASS_INSTANCES", 50)
    bags = [torch.randn(size, 8) for size in (30, 10, 40)]
    with FlopCounterMode(display=False) as floor:
        methods.gemms(bags, hidden=16)()
    step = methods.steps(bags, torch.tensor([0, 1, 1]), 16)["loop"][1]
    with FlopCounterMode(display=False) as whole:
        step()
    assert 0.9 < floor.get_total_flops() / whole.get_total_flops() <= 1.0  # pooling and head are left out


def test_large_bags_go_alone() -> None:
    bags = [torch.zeros(size, 1) for size in (5, 600, 5, 5, 700, 3000, 100)]
    assert [len(part) for part in methods._passes(bags)] == [1, 1, 2, 1, 1, 1]


def test_small_bags_are_packed_to_the_brim() -> None:
    passes = methods._passes([torch.zeros(100, 1)] * 50)
    assert [len(part) for part in passes] == [40, 10]


def test_drawn_sizes_are_as_asked() -> None:
    bags, labels = Bags(64, 100, 1.0, 4, 8).draw()
    sizes = np.array([len(bag) for bag in bags])
    assert sizes.mean() == pytest.approx(100, rel=0.02)
    assert sizes.max() > 3 * sizes.min()
    assert set(labels.tolist()) == {0, 1}


@pytest.mark.slow
def test_streaming_takes_less_memory() -> None:
    streamed, whole = (bag_step(60_000, 64, 64, chunk, threads=1) for chunk in (2_048, None))
    assert whole["extra_mb"] > 2 * streamed["extra_mb"]


def test_tasks_of_mil_speed() -> None:
    assert {cell.task for cell in mil_speed.cells("small")} == {*mil_speed.TASKS, *mil_speed.HUGE}
    assert measuring.FLOOR not in methods.steps([torch.zeros(2, 4)], torch.tensor([1]), 4)
