"""The suite distillation: its cells, a whole smoke run, its report, and the balance of two teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from entroreg.benchmarks.cells import Cell, is_done, read_result, write_result
from entroreg.benchmarks.distillation import report
from entroreg.benchmarks.distillation.balance import balance_of
from entroreg.benchmarks.suites import distillation


def test_cells() -> None:
    small = distillation.cells("small")
    methods = distillation.TASKS["small"]["mnist"].methods
    assert [(cell.seed, cell.method) for cell in small] == [(seed, name) for seed in range(3) for name in methods]
    assert {cell.task for cell in distillation.cells("paper")} == {"mnist", "fashion-mnist"}


def test_whole_cells_of_one_seed(tmp_path: Path) -> None:
    for cell in distillation.cells("smoke"):
        folder = cell.folder(tmp_path)
        folder.mkdir(parents=True)
        distillation.run(cell, folder)
        assert is_done(folder)
    cells = distillation.cells("smoke")
    found = {cell.method: read_result(cell.folder(tmp_path)) for cell in cells}
    assert found["b-mtard"]["score"] == found["b-mtard"]["accuracy"]["weighted_pgd"]
    assert found["b-mtard"]["teachers"]["solve"]["updates"] == 1
    assert (tmp_path / "distillation" / "teachers" / "bars" / "robust-seed-0" / "result.json").exists()
    summary = {"suite": "distillation", "preset": "smoke", **report.summarise(cells, tmp_path)}
    rows = summary["methods"]["bars"]
    assert rows["b-mtard"]["gap"][0] < 1e-5 < rows["mtard"]["gap"][0]
    assert rows["plain"]["gap"] == [None]
    difference = found["b-mtard"]["accuracy"]["pgd"] - found["mtard"]["accuracy"]["pgd"]
    assert summary["differences"]["bars"]["b-mtard - mtard"]["pgd"] == [pytest.approx(difference, abs=1e-5)]
    assert "solve 1 updates" in report.as_text(summary)
    report.plot(summary, tmp_path / "summary.png")
    assert (tmp_path / "summary.png").stat().st_size > 10_000


def _result(clean: float, pgd: float, autoattack: float) -> dict[str, Any]:
    return {
        "score": (clean + autoattack) / 2,
        "accuracy": {
            "clean": clean,
            "pgd": pgd,
            "weighted_pgd": (clean + pgd) / 2,
            "autoattack": autoattack,
            "weighted_autoattack": (clean + autoattack) / 2,
            "images": 10_000,
            "autoattack_images": 500,
        },
        "trace": {},
        "train_seconds": 10.0,
    }


def test_summary_follows_from_the_cells(tmp_path: Path) -> None:
    results = {
        ("plain", 0): _result(0.99, 0.02, 0.0),
        ("plain", 1): _result(0.99, 0.12, 0.0),
        ("adversarial", 0): _result(0.98, 0.90, 0.86),
        ("adversarial", 1): _result(0.98, 0.91, 0.88),
        ("adversarial", 2): _result(0.98, 0.84, 0.80),
        ("mtard", 0): _result(0.985, 0.91, 0.85),
        ("mtard", 2): _result(0.985, 0.88, 0.85),
    }
    cells = [Cell("distillation", "small", "mnist", method, seed) for method, seed in results]
    for cell in cells:
        cell.folder(tmp_path).mkdir(parents=True)
        write_result(cell.folder(tmp_path), results[cell.method, cell.seed])
    cells.append(Cell("distillation", "small", "mnist", "mtard", 1))  # not done
    summary = {"suite": "distillation", "preset": "small", **report.summarise(cells, tmp_path)}
    row = summary["methods"]["mnist"]["adversarial"]
    assert row["accuracy"]["pgd"] == [0.90, 0.91, 0.84]
    low, high = row["interval"]["pgd"]
    assert 0.84 <= low < 0.8833 < high <= 0.91
    assert summary["differences"]["mnist"]["mtard - adversarial"]["autoattack"] == pytest.approx([-0.01, 0.05])
    assert set(summary["void"]["mnist"]) == {"1", "2"}
    text = report.as_text(summary)
    assert "seed 1 is void: plain training has 0.120 under PGD-20" in text
    assert "seed 2 is void: adversarial training has 0.840 under PGD-20" in text
    assert "autoattack on the first 500" in text
    assert "+2.00 [-1.00, +5.00]" in text
    assert "not done: 1 cells" in text
    assert report.void_seeds("fashion-mnist", {"adversarial": {0: _result(0.8, 0.5, 0.5)}}) == {}


def test_balance_of_two_teachers_with_a_known_ratio() -> None:
    logits = 4 * torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    found = balance_of([logits, logits / 1.3])
    assert found["entropies"][0] < found["entropies"][1]
    assert found["solve"]["updates"] == 1
    assert found["solve"]["temperatures"] == pytest.approx([1.3, 1.0], abs=1e-6)
    # sign moves by 1e-3 from 1.0 until the difference is below 0.01, a little before 1.3
    assert 200 < found["sign"]["updates"] < 300
    assert found["sign"]["temperatures"][0] == pytest.approx(1 + found["sign"]["updates"] * 1e-3)
    assert found["solve"]["gap"] < 1e-6 < found["sign"]["gap"]
