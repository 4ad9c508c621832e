"""The rlvr suite: its law, its summary, its shared start, and the cells that run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.rlvr import report
from entroreg.benchmarks.rlvr.picture import plot_controls
from entroreg.benchmarks.rlvr.theory import law_of, monitor_of
from entroreg.benchmarks.suites import rlvr

ROWS = 40


def _result(control: str, seed: int, kept: float, score: float) -> dict[str, Any]:
    entropy = np.geomspace(0.4, 0.4 * kept, ROWS)
    curve = [
        {"step": 10 * (i + 1), "entropy": float(h), "reward": float(1.5 - 0.6 * np.exp(h)), "covariance": 0.1}
        for i, h in enumerate(entropy)
    ]
    return {
        "control": control,
        "seed": seed,
        "start": {"pass_at_1": 0.3, "pass_at_8": 0.8, "entropy": 0.4},
        "final": {"pass_at_1": score, "pass_at_8": 0.9, "entropy": 0.4 * kept},
        "score": score,
        "curve": curve,
        "evaluations": [{"step": 50 * i, "pass_at_1": 0.3, "pass_at_8": 0.8} for i in (1, 2)],
        "sampling_share": 0.3,
    }


def _suite(out: Path, kept: tuple[float, float]) -> dict[str, Any]:
    controls = ("none", "clip-cov")
    cells = [Cell("rlvr", "small", "addition-2", control, seed) for control in controls for seed in (0, 1, 2)]
    scores = {("none", 0): 0.70, ("none", 1): 0.80, ("clip-cov", 0): 0.75, ("clip-cov", 1): 0.60}
    for cell in cells:
        folder = cell.folder(out)
        folder.mkdir(parents=True)
        if (cell.method, cell.seed) in scores:
            own = kept[cell.seed] if cell.method == "none" else 0.5
            write_result(folder, _result(cell.method, cell.seed, own, scores[cell.method, cell.seed]))
    return {"suite": "rlvr", "preset": "small", **report.summarise(cells, out)}


def test_differences_are_between_runs_of_one_seed_that_counts(tmp_path: Path) -> None:
    summary = _suite(tmp_path, kept=(0.2, 0.4))
    assert summary["entropy_lost"] == pytest.approx({"0": 0.8, "1": 0.6})
    assert summary["void_seeds"] == [1]
    row = summary["controls"]["clip-cov"]
    assert row["seeds"] == [0]
    assert row["difference"]["pass_at_1"] == pytest.approx([0.05])
    assert row["difference"]["entropy"] == pytest.approx([0.4 * 0.3])
    assert row["entropy_kept"] == pytest.approx([0.5])
    assert summary["controls_all"]["clip-cov"]["difference"]["pass_at_1"] == pytest.approx([0.05, -0.20])
    text = report.as_text(summary)
    one, both = (line.split() for line in text.splitlines() if line.startswith("  clip-cov"))
    assert one[:5] == ["clip-cov", "1", "0.50", "0.750", "+0.050"]
    assert both[:6] == ["clip-cov", "2", "0.50", "0.675", "-0.075", "[-0.200,"]
    assert "0.80 (seed 0), 0.60 (seed 1)" in text
    assert "not done: 2 cells" in text


def test_where_all_count_one_table_says_it(tmp_path: Path) -> None:
    summary = _suite(tmp_path, kept=(0.2, 0.3))
    assert summary["void_seeds"] == []
    assert summary["controls"] == summary["controls_all"]
    assert "all seeds:" not in report.as_text(summary)


def test_without_a_collapse_the_comparison_is_void(tmp_path: Path) -> None:
    summary = _suite(tmp_path, kept=(0.4, 0.5))
    assert summary["controls"] == {}
    assert "none: the comparison is void" in report.as_text(summary)


def test_the_law_of_a_training_that_follows_it() -> None:
    curve = _result("none", 0, 0.2, 0.7)["curve"]
    law = law_of(curve)
    assert law is not None
    assert (law["a"], law["b"], law["r_squared"]) == pytest.approx((0.6, 1.5, 1.0))
    assert law["ceiling"] == pytest.approx(0.9)
    assert law["forecast_error"] == pytest.approx(0.0, abs=1e-9)
    for block in curve[6:]:  # the first 15 % are 6 of 40
        block["reward"] -= 0.1
    broken = law_of(curve)
    assert broken is not None
    assert broken["forecast_error"] == pytest.approx(0.1)
    assert broken["forecast_final_error"] == pytest.approx(0.1)
    assert law_of(curve[:10]) is None


def test_the_monitor_reads_the_blocks() -> None:
    curve = [{"step": 10 * i, "entropy": 1.0 - 0.1 * 0.02 * i, "covariance": 0.1} for i in range(1, 6)]
    report_ = monitor_of(curve).report()
    assert report_.step == 50
    assert (report_.eta, report_.measured) == pytest.approx((0.02, -0.002))
    assert report_.r_squared == pytest.approx(1.0)


def test_a_picture_has_a_line_for_each_control(tmp_path: Path) -> None:
    plot_controls([_result("none", 0, 0.2, 0.7), _result("kl-cov", 0, 0.3, 0.7)], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_the_presets_have_every_control_and_seed() -> None:
    assert len(rlvr.cells("small")) == 8 * 5
    assert {cell.method for cell in rlvr.cells("smoke")} == set(rlvr.SMOKE_CONTROLS)
    assert {cell.method for cell in rlvr.cells("small")} == set(rlvr.CONTROLS)
    assert all(cell.task == "addition-2" for cell in rlvr.cells("paper"))


@pytest.mark.slow
def test_all_controls_of_a_seed_start_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    cells = [cell for cell in rlvr.cells("smoke") if cell.method in ("none", "clip-cov")]
    for cell in cells:
        cell.folder(tmp_path).mkdir(parents=True)
        rlvr.run(cell, cell.folder(tmp_path))
    results = [json.loads((cell.folder(tmp_path) / "result.json").read_text()) for cell in cells]
    assert results[0]["start"] == results[1]["start"]
    assert results[0]["curve"][0]["kl"] != results[1]["curve"][0]["kl"]
    assert results[0]["evaluations"][-1]["step"] == rlvr.SETTINGS["smoke"].steps
    monkeypatch.setitem(rlvr.SETTINGS, "smoke", rlvr.replace(rlvr.SETTINGS["smoke"], warm_up=0.35))
    with pytest.raises(ValueError, match="must hold the warm start of"):
        rlvr.run(cells[0], cells[0].folder(tmp_path))
    torch.set_num_threads(threads)
