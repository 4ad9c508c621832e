"""The suites robust and robust-speed, on their smallest cells, and what their reports make of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3

from entroreg.benchmarks.cells import read_result
from entroreg.benchmarks.robust.methods import METHODS
from entroreg.benchmarks.suites import robust, robust_speed

pytestmark = pytest.mark.filterwarnings("ignore:the curriculum has not moved")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells of the smoke preset, done; the other two not."""
    out = tmp_path_factory.mktemp("robust")
    for cell in robust.cells("smoke"):
        if cell.method in ("qarl", "domain-randomisation"):
            folder = cell.folder(out)
            folder.mkdir(parents=True)
            robust.run(cell, folder)
    return out


def test_a_cell_holds_what_is_measured(out: Path) -> None:
    (cell,) = (cell for cell in robust.cells("smoke") if cell.method == "qarl")
    result = read_result(cell.folder(out))
    assert np.shape(result["grid"]["returns"]) == (2, 2)
    assert result["score"] == result["grid_mean"] == pytest.approx(np.mean(result["grid"]["returns"]))
    assert result["grid_worst"] == np.min(result["grid"]["returns"])
    assert result["own_adversary"] is not None
    assert result["curriculum"], "its steps are kept"
    reference = out / "robust" / "references" / "InvertedPendulum-v5" / "reference.json"
    assert reference.exists()
    stock = stable_baselines3.SAC.load(cell.folder(out) / "protagonist.zip", device="cpu")
    assert stock.observation_space.shape == (4,)


def test_a_summary_says_what_is_missing(out: Path, tmp_path: Path) -> None:
    summary = {"suite": "robust", "preset": "smoke", **robust.summarise(robust.cells("smoke"), out)}
    rows = summary["tasks"]["InvertedPendulum-v5"]["grid_mean"]
    assert [row["method"] for row in rows] == ["qarl", "domain-randomisation", "rarl", "sac"]
    assert [row["done"] for row in rows] == [1, 1, 0, 0]
    assert len(summary["failed"]) == 2
    text = robust.as_text(summary)
    assert "InvertedPendulum-v5: fresh adversary" in text
    assert "qarl seed 0: k " in text
    robust.plot(summary, tmp_path / "grids.png")
    assert (tmp_path / "grids.png").read_bytes().startswith(b"\x89PNG")


def test_every_method_of_every_preset_is_known() -> None:
    for tasks in robust.TASKS.values():
        for task in tasks.values():
            assert set(task.methods) <= set(METHODS)


def test_a_run_that_is_broken_off_has_the_shared_methods_first() -> None:
    cells = robust.cells("small")
    assert len(cells) == (7 + 4) * 5
    assert [cell.seed for cell in cells[:40]] == [seed for seed in range(5) for _ in range(8)]
    assert {cell.method for cell in cells[:40]} == set(robust.SHARED)


def test_speed_of_views_and_stages(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    for index, cell in enumerate(robust_speed.cells("smoke")):
        folder = tmp_path / str(index)
        folder.mkdir()
        robust_speed.run(cell, folder)
        results.append({"task": cell.task, **read_result(folder)})
    views, stages = results
    assert set(views["rounds"]) == {"plain", "protagonist", "adversary", "opponent"}
    ratios = np.array(views["rounds"]["plain"]) / np.array(views["rounds"]["adversary"])
    assert views["speed_over_plain"]["adversary"][1] == pytest.approx(np.median(ratios))
    (row,) = stages["rows"]
    assert row["adversary_steps"] == row["protagonist_steps"] == 200, "five episodes of 40 steps"
    assert 0.0 < row["adversary_update_seconds"] < row["adversary_seconds"]
    text = robust_speed.as_text({"suite": "robust-speed", "preset": "smoke", "cells": results, "failed": []})
    assert "an opponent's forward" in text
    assert "updating, 200 steps" in text
