"""What the learning suites record: curves in equal parts, and their middle over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from entroreg.benchmarks.curves import plot_seed_curves, seed_points
from entroreg.benchmarks.suites import sac, sac_mujoco
from entroreg.benchmarks.suites.learning import CURVE_POINTS, learning_curve


def test_a_curve_has_the_mean_of_the_episodes_that_ended_in_each_part() -> None:
    steps = 100 * CURVE_POINTS
    rows = [{"step": 100, "return": 1.0}, {"step": 101, "return": 2.0}, {"step": 200, "return": 4.0}]
    rows += [{"step": steps, "return": 7.0}]
    assert learning_curve(rows, steps, "return") == [[100.0, 1.0], [200.0, 3.0], [float(steps), 7.0]]
    assert learning_curve([], steps, "return") == []


def test_points_are_where_every_seed_has_one() -> None:
    curves = [[[100, 1.0], [200, 5.0]], [[100, 3.0]], [[100, 2.0], [200, 9.0]]]
    ((step, middle, low, high),) = seed_points(curves)
    assert (step, middle) == (100, pytest.approx(2.0))
    assert 1.0 <= low <= middle <= high <= 3.0


def test_one_seed_has_no_interval() -> None:
    assert seed_points([[[10, 4.0]]]) == [(10, 4.0, 4.0, 4.0)]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = [
        {"task": task, "method": method, "curve": [[step, float(rng.normal())] for step in (1, 2, 3)]}
        for task in ("A-v1", "B-v1")
        for method in ("first", "second")
        for _ in range(3)
    ]
    plot_seed_curves(cells, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_every_task_has_both_methods_and_all_seeds() -> None:
    for suite, seeds in ((sac, 5), (sac_mujoco, 3)):
        cells = suite.cells("small")
        assert len(cells) == len(set(cells)) == sum(len(task.methods) for task in suite.TASKS.values()) * seeds
