"""Suite trust: a run of ours that is killed ends as undisturbed, and the summary says it all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks.suites import trust
from entroreg.benchmarks.trust import verdict
from entroreg.benchmarks.trust.verdict import broken_promises


def test_the_smoke_run(smoke: Callable[[str], dict[str, Any]]) -> None:
    summary = smoke("trust")
    cells = {(cell["task"], cell["method"]): cell for cell in summary["cells"]}
    ours, stock = cells["sac", "entroreg"], cells["sac", "sb3"]
    for cell in (ours, stock):
        assert cell["totals"] == trust.totals_of(cell)
        assert cell["totals"]["kills"] == trust.KILLS["smoke"]
        assert cell["undisturbed"]["repeats"] is True
    assert ours["totals"]["resumed"] == ours["totals"]["kills"]
    assert ours["totals"]["identical"] == ours["totals"]["runs"] > 0
    assert (ours["totals"]["corrupt"], ours["totals"]["begun_anew"]) == (0, 0)
    assert broken_promises(summary) == []
    text = trust.as_text(summary)
    assert "sac   entroreg" in text
    assert "checkpoint-of-10_000-transitions, one thread" in text


def test_all_that_must_be_shown_is_in_the_small_preset() -> None:
    cells = trust.cells("small")
    ours = [cell.task for cell in cells if cell.method == "entroreg"]
    assert ours == ["sac", "qarl", "mil"]
    assert trust.KILLS["small"] * len(ours) >= 200
    assert [cell.method for cell in cells if cell.task == "sac"] == ["entroreg", "sb3", "sb3-callback"]
    assert [cell.task for cell in cells if cell.method == "in-turn"] == [
        "checkpoint-of-1_000_000-transitions",
        "HalfCheetah-v5-with-1_000_000-transitions",
    ]
    assert [(cell.task, cell.method) for cell in trust.cells("paper")] == [(c.task, c.method) for c in cells]


def test_windows_have_readings_and_lines() -> None:
    rates = {"no-checkpoint": [100.0, 80.0], "checkpoint-a-window": [99.0, 80.0]}
    cell = {
        "task": "T",
        "method": "in-turn",
        "seed": 0,
        "rounds": {"steps_per_second": rates, "pause_seconds": {"checkpoint-a-window": [0.3, 0.5]}},
        "pause_share_of_a_minute": 0.4 / 60,
        "steps_lost": [0.01, 0.0],
    }
    found = {(quantity.name, method): values for quantity, method, values in trust.readings(cell)}
    assert found == {
        ("training steps per second", "no-checkpoint"): {0: 100.0, 1: 80.0},
        ("training steps per second", "checkpoint-a-window"): {0: 99.0, 1: 80.0},
        ("pause of a checkpoint", "checkpoint-a-window"): {0: 0.3, 1: 0.5},
    }
    text = trust.as_text({"suite": "trust", "preset": "small", "cells": [cell], "failed": []})
    assert "a pause is 0.67 % of a minute; steps lost, by round, in %: [1.0, 0.0]" in text


KEPT = {
    "kills": 9,
    "resumed": 9,
    "corrupt": 0,
    "mismatched": 0,
    "torn": 1,
    "begun_anew": 0,
    "runs": 2,
    "identical": 2,
}


def _summary(totals: dict[str, int], *, method: str = "entroreg", repeats: bool = True) -> dict[str, Any]:
    killed = {"task": "sac", "method": method, "totals": totals, "undisturbed": {"repeats": repeats}}
    return {"cells": [killed], "failed": []}


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("resumed", 8, "sac: kills must all be resumed, got 8 in 9 kills of 2 runs"),
        ("corrupt", 1, "sac: kills must leave no corrupt file, got 1 in 9 kills of 2 runs"),
        ("mismatched", 1, "sac: kills must leave no files of different steps, got 1 in 9 kills of 2 runs"),
        ("begun_anew", 1, "sac: runs must never begin anew, got 1 in 9 kills of 2 runs"),
        ("identical", 1, "sac: runs must all end bit-identical, got 1 in 9 kills of 2 runs"),
    ],
)
def test_a_broken_promise_is_named(name: str, value: int, line: str) -> None:
    assert broken_promises(_summary(KEPT)) == []
    assert broken_promises(_summary({**KEPT, name: value})) == [line]
    assert broken_promises(_summary({**KEPT, name: value}, method="sb3")) == []  # they promise nothing


def test_other_promises() -> None:
    differ = "sac: two undisturbed runs must be equal, got two that differ"
    assert broken_promises(_summary(KEPT, repeats=False)) == [differ]
    failed = {"cells": [], "failed": [{"task": "mil", "method": "entroreg"}]}
    assert broken_promises(failed) == ["entroreg on mil has no result"]
    slow = {"task": "T", "method": "in-turn", "pause_share_of_a_minute": 0.02}
    line = "T: a checkpoint must take less than 2% of a minute, got 2.00%"
    assert broken_promises({"cells": [slow], "failed": []}) == [line]
    assert broken_promises({"cells": [{**slow, "pause_share_of_a_minute": 0.0199}], "failed": []}) == []


def test_the_verdict_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trust").mkdir()
    for identical, code, text in ((2, 0, "every promise was kept"), (1, 1, "sac: runs must all end bit-identical")):
        summary = _summary({**KEPT, "identical": identical})
        (tmp_path / "trust" / "summary.json").write_text(json.dumps(summary))
        assert verdict.main([str(tmp_path)]) == code
        assert capsys.readouterr().out.startswith(text)
