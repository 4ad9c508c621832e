"""Every suite's smallest run, whole: cells, readings, a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks.bench import as_text, load_suite
from entroreg.benchmarks.bench_folder import seconds_of
from entroreg.benchmarks.readings import curves_of, grid_of, measurements
from entroreg.benchmarks.report_page.write import write_report
from entroreg.benchmarks.suites import MINUTES, SUITES

WITH_CURVES = {"sac", "sac-mujoco", "rlvr", "robust"}
SLOW = {  # a minute each, or more
    "adaptation",
    "sac",
    "sac-mujoco",
    "sac-speed",
    "robust",
    "rlvr",
    "distillation",
    "token-entropy",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SUITES]
)
def test_a_smoke_run_from_cells_to_a_report(
    name: str, smoke: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    suite, summary = load_suite(name), smoke(name)
    cells = suite.cells("smoke")
    assert summary["failed"] == []
    assert len(summary["cells"]) == len(cells)
    assert as_text(summary).startswith(f"suite {name}, preset smoke")
    found = measurements(suite, summary)
    assert found
    assert all(len(row.values) == row.expected > 0 for row in found)
    assert {row.task for row in found} == {cell.task for cell in cells}
    curves = [curves_of(suite, cell) for cell in summary["cells"]]
    assert any(curves) == (name in WITH_CURVES)
    assert any(grid_of(suite, cell) for cell in summary["cells"]) == (name == "robust")
    paths = write_report([summary], [], tmp_path)
    page = paths["html"].read_text()
    assert all(cell.task in page for cell in cells)
    assert all(seconds_of(cell.folder(summary["out"])) > 0 for cell in cells)


def test_every_suite_has_its_estimate() -> None:
    assert list(MINUTES) == list(SUITES)
    assert all(0 < minutes["smoke"] <= 1 for minutes in MINUTES.values())
    assert all(minutes["small"] / 2 <= 180 for minutes in MINUTES.values())  # on two cores
