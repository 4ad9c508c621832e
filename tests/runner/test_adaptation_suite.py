"""Suite adaptation: a whole smoke run, and a summary that follows from its cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from entroreg.benchmarks.suites import adaptation


@pytest.mark.slow
def test_a_smoke_run(smoke: Callable[[str], dict[str, Any]]) -> None:
    summary = smoke("adaptation")
    assert summary["failed"] == []
    assert set(summary["tasks"]) == {"as-trained"}
    for rows in summary["tasks"].values():
        assert [row["method"] for row in rows] == list(adaptation.METHODS[:4])
        for row in rows:
            assert row["episodes"] == 2
            assert row["success"]["interval"][0] <= row["success"]["rate"] <= row["success"]["interval"][1]
        assert rows[0]["difference"]["mean"] == 0.0
    assert "as-trained" in adaptation.as_text(summary)
    assert (summary["out"] / "adaptation" / "summary.png").stat().st_size > 10_000
    uncertainty = [cell["uncertainty"]["cluster"] for cell in summary["cells"]]
    assert len({tuple(values) for values in uncertainty}) > 1  # adaptation changes what is driven


def test_all_methods_drive_one_planner_on_the_same_maps() -> None:
    cells = adaptation.cells("small")
    assert len(cells) == len(set(cells)) == 3 * 5 * 5
    size = adaptation.SIZES["small"]
    assert size.seeds * size.episodes >= 200
    assert {adaptation.report.measure_of(method) for method in adaptation.METHODS} == {
        "none",
        "full",
        "semantic",
        "cluster",
    }
