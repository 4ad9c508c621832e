"""What checkpoints cost is measured of real ones, of the sizes that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from entroreg.benchmarks.trust.cost import (
    CostPlan,
    SlowdownPlan,
    checkpoint_rounds,
    numbers_of,
    slowdown_rounds,
)

OBSERVATION, ACTION = 17, 6
ROW = 2 * OBSERVATION * 8 + (ACTION + 3) * 4  # bytes of a transition of HalfCheetah-v5


def test_rounds_of_checkpoints(tmp_path: Path) -> None:
    rounds = checkpoint_rounds(CostPlan(60_000, 50, 2), tmp_path)
    for by_method in rounds.values():
        assert list(by_method) == ["entroreg", "sb3", "sb3-fsync"]
        assert all(len(turns) == 2 and min(turns) > 0 for turns in by_method.values())
    for method, sizes in rounds["first_bytes"].items():
        assert 60_000 * ROW < min(sizes) <= max(sizes) < 60_000 * ROW + 8e6, method  # and the networks
    assert max(rounds["next_bytes"]["entroreg"]) < 0.7 * min(rounds["first_bytes"]["entroreg"])
    assert min(rounds["next_bytes"]["sb3"]) > 60_000 * ROW
    assert list(tmp_path.iterdir()) == []


def test_rounds_of_windows(tmp_path: Path) -> None:
    rounds = slowdown_rounds(SlowdownPlan(2_000, "eager", 0.2, 1.0, 2), tmp_path)
    rates, pauses = rounds["steps_per_second"], rounds["pause_seconds"]["checkpoint-a-window"]
    assert {name: len(turns) for name, turns in rates.items()} == {"no-checkpoint": 2, "checkpoint-a-window": 2}
    assert min(*rates["no-checkpoint"], *rates["checkpoint-a-window"]) > 1.0
    assert len(pauses) == 2
    assert all(0.0 < pause < 5.0 for pause in pauses)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_windows() -> None:
    rates = {"no-checkpoint": [100.0, 80.0, 50.0], "checkpoint-a-window": [99.0, 80.0, 51.0]}
    rounds = {"steps_per_second": rates, "pause_seconds": {"checkpoint-a-window": [0.3, 0.6, 1.2]}}
    found = numbers_of(rounds)
    assert found["pause_share_of_a_minute"] == pytest.approx(0.01)
    assert found["steps_lost"] == pytest.approx(list(np.array([0.01, 0.0, -0.02])))
