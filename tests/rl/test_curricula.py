"""Where temperatures come from when no Gamma distribution draws them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from entroreg import GammaCurriculum
from entroreg.agents.adversarial import ConstantTemperature, LinearTemperature, PointCurriculum
from entroreg.agents.adversarial.curricula import floor_of

RNG = np.random.default_rng(0)


def test_constant() -> None:
    curriculum = ConstantTemperature(0.3)
    assert curriculum.draw(3, RNG).tolist() == [0.3] * 3
    assert curriculum.observe([0.3], [1.0]) is None  # type: ignore[func-returns-value]
    curriculum.load_state_dict(curriculum.state_dict())
    assert curriculum.mean == 0.3
    with pytest.raises(ValueError, match="temperature must be finite and at least 0, got -1"):
        ConstantTemperature(-1.0)


def test_linear_falls_with_the_episodes_and_stays() -> None:
    curriculum = LinearTemperature(100, 0.05, 0.001)
    assert curriculum.draw(2, RNG).tolist() == [0.05, 0.05]
    for seen in range(10, 131, 10):
        metrics = curriculum.observe([0.0] * 10, [2.0] * 10)
        expected = 0.05 - 0.049 * min(1.0, seen / 100)
        assert metrics["mean"] == pytest.approx(expected)
        assert metrics["return_mean"] == 2.0
    again = LinearTemperature(100, 0.05, 0.001)
    again.load_state_dict(curriculum.state_dict())
    assert again.mean == curriculum.mean == pytest.approx(0.001)
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        LinearTemperature(0)
    with pytest.raises(ValueError, match=r"state of LinearTemperature does not fit: missing keys \['seen'\]"):
        again.load_state_dict({})


def test_point_moves_by_at_most_its_step_and_only_above_the_floor() -> None:
    curriculum = PointCurriculum(10.0, temperature=0.0035, target=0.001, max_squared_step=1e-6, samples=4)
    assert curriculum.observe([0.0] * 3, [20.0] * 3) is None
    held = curriculum.observe([0.0], [-100.0])
    assert held is not None
    assert (held["held_back"], held["mean"], held["return_mean"]) == (1.0, 0.0035, -10.0)
    temperatures = []
    for _ in range(4):
        step = curriculum.observe([0.0] * 4, [10.0] * 4)  # at the floor is allowed
        assert step is not None
        temperatures.append(step["mean"])
    assert temperatures == pytest.approx([0.0025, 0.0015, 0.001, 0.001])
    assert (curriculum.updates, curriculum.held_back) == (5, 1)
    curriculum.observe([0.0], [3.0])
    again = PointCurriculum(10.0, samples=4)
    again.load_state_dict(curriculum.state_dict())
    assert again.state_dict() == curriculum.state_dict()
    assert math.isclose(again.mean, 0.001)


def test_floors() -> None:
    assert floor_of(GammaCurriculum(2.0)) == 2.0
    assert floor_of(PointCurriculum(3.0)) == 3.0
    assert floor_of(LinearTemperature(1)) is None
