"""Every committed result file says where it came from, and its statistics follow from its scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import trim_mean

RESULTS = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.json"))


def test_there_are_results() -> None:
    assert RESULTS


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
    for task, rows in result["tasks"].items():
        for row in rows:
            cells = [cell for cell in result["cells"] if (cell["task"], cell["method"]) == (task, row["method"])]
            assert row["scores"] == [cell["score"] for cell in cells]
            assert row["done"] == row["seeds"] == len({cell["seed"] for cell in cells})
            assert row["iqm"] == pytest.approx(trim_mean(row["scores"], 0.25))
            assert row["interval"][0] <= row["iqm"] <= row["interval"][1]
