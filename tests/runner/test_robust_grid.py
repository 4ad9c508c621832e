"""Grids, adversaries and pictures of the robust evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from entroreg.benchmarks.evaluation import discounted_returns, episode_returns
from entroreg.benchmarks.robust.adversaries import returns_against
from entroreg.benchmarks.robust.grid import robust_grid, summary_of
from entroreg.benchmarks.robust.heatmap import draw_grids
from entroreg.envs import Forces, Perturbed, Range, UncertaintySet, find_forces, make_task

TASK = "InvertedPendulum-v5"
POLES = UncertaintySet((Range("mass:pole", 1.0, 31.0), Range("mass:cart", 1.0, 11.0)))


def _lean(observation: np.ndarray) -> np.ndarray:
    """A linear controller that balances the nominal task."""
    position, angle, speed, turn = observation
    return np.array([0.3 * position + 25.0 * angle + 0.7 * speed + 4.0 * turn], np.float32).clip(-3.0, 3.0)


def test_each_cell_is_the_return_of_the_perturbed_task() -> None:
    grid = robust_grid(_lean, TASK, POLES, points=2, episodes=2, seed=5)
    assert grid is not None
    assert grid["parameters"] == ["mass:pole", "mass:cart"]
    assert grid["values"] == [[1.0, 31.0], [1.0, 11.0]]
    assert grid["nominal_values"] == pytest.approx([5.0186, 10.4720], abs=1e-3)
    for i, pole in enumerate((1.0, 31.0)):
        for j, cart in enumerate((1.0, 11.0)):
            env = Perturbed(make_task(TASK), {"mass:pole": pole, "mass:cart": cart})
            assert grid["returns"][i][j] == np.mean(episode_returns(_lean, env, 2, 5))
    nominal = np.mean(episode_returns(_lean, make_task(TASK), 2, 5))
    assert grid["nominal"] == nominal
    assert len(set(np.ravel(grid["returns"]))) > 1, "a grid in which nothing matters tests nothing"


def test_one_parameter_is_a_line(tmp_path: Path) -> None:
    grid = robust_grid(_lean, TASK, UncertaintySet(POLES.ranges[:1]), points=3, episodes=1, seed=0)
    assert grid is not None
    assert np.shape(grid["returns"]) == (3,)
    draw_grids([{"line": grid}], tmp_path / "line.png")
    assert (tmp_path / "line.png").read_bytes().startswith(b"\x89PNG")


def test_a_stopped_grid_is_no_grid() -> None:
    asked = iter([False] * 30)
    assert robust_grid(_lean, TASK, POLES, points=2, episodes=1, seed=0, stop=lambda: next(asked, True)) is None


def test_summary_by_hand() -> None:
    found = summary_of(np.array([[1.0, 2.0], [3.0, 6.0]]), nominal=4.0)
    assert found == {"nominal": 4.0, "worst": 1.0, "mean": 3.0, "area_over_nominal": 0.75}
    line = summary_of(np.array([0.0, 4.0, 4.0]), nominal=4.0)
    assert line["area_over_nominal"] == pytest.approx(0.75)  # trapezoids of 2 and 4 over 2 intervals
    assert summary_of(np.array([1.0, 2.0]), nominal=-1.0)["area_over_nominal"] is None


def test_an_adversary_at_full_force_costs_return() -> None:
    forces = Forces(find_forces(TASK).bodies, 200.0)
    alone = np.mean(episode_returns(_lean, make_task(TASK), 3, 0))
    pushed = np.mean(returns_against(_lean, lambda _o: np.array([1.0, 0.0]), TASK, forces, 3, 0))
    still = np.mean(returns_against(_lean, lambda _o: np.zeros(2), TASK, forces, 3, 0))
    assert still == alone
    assert pushed < 0.5 * alone


def test_discounted_returns() -> None:
    env = make_task(TASK)
    whole = episode_returns(_lean, env, 2, 3)
    assert discounted_returns(_lean, env, 2, 3, 1.0) == whole
    expected = [(1.0 - 0.9**n) / (1.0 - 0.9) for n in whole]  # a reward of 1 for each step
    assert discounted_returns(_lean, env, 2, 3, 0.9) == pytest.approx(expected, rel=0.1)


def test_heat_maps_side_by_side(tmp_path: Path) -> None:
    cell = {
        "parameters": ["a", "b"],
        "values": [[0.0, 1.0], [0.0, 1.0]],
        "nominal_values": [0.5, None],
        "returns": [[0.0, 1.0], [2.0, 3.0]],
        "mean": 1.5,
        "worst": 0.0,
        "nominal": 2.0,
    }
    draw_grids([{"one": cell, "two": {**cell, "nominal_values": [0.5, 0.5]}}, {"three": cell}], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
