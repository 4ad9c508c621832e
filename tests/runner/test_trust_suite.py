"""Suite trust: a run of ours that is killed ends as undisturbed, and the summary says it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from entroreg.benchmarks.suites import trust


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
