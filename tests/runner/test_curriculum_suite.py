"""Suite curriculum: its problems are what they say, and a cell counts as it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from entroreg.benchmarks.cells import read_result
from entroreg.benchmarks.curriculum.problems import Problem, random_problem
from entroreg.benchmarks.curriculum.solvers import bracketed, trust_constr
from entroreg.benchmarks.suites import curriculum
from entroreg.curriculum import GammaCurriculum


def test_problems_can_be_solved_and_drawn_again() -> None:
    problems = [random_problem(0, index) for index in range(20)]
    assert {problem.kind for problem in problems} == {"noise", "line", "bumps"}
    assert any(problem.pieces() >= 2 for problem in problems)
    for index, problem in enumerate(problems):
        assert problem.is_feasible(problem.old, 1e-9), "staying is feasible"
        assert np.array_equal(problem.temperatures, random_problem(0, index).temperatures)


@pytest.mark.parametrize("index", range(5))
def test_the_bracketed_solver_is_the_step_of_the_curriculum(index: int) -> None:
    problem = random_problem(1, index)
    whole = GammaCurriculum(problem.floor, shape=problem.old)
    whole.observe(list(problem.temperatures), list(problem.returns))
    assert whole.shape == bracketed(problem)


def test_trust_constr_finds_the_end_of_a_convex_problem() -> None:
    free = Problem(50.0, np.full(30, 0.05), np.full(30, 1e9), 0.0, "")
    found, best = trust_constr(free), bracketed(free)
    assert best <= found <= 1.01 * best, "it stops at the authors' gtol, on the feasible side"


def test_a_cell(tmp_path: Path) -> None:
    (cell,) = curriculum.cells("smoke")
    curriculum.run(cell, tmp_path)
    result = read_result(tmp_path)
    assert result["ours_infeasible"] == result["ours_worse"] == 0
    assert len(result["problems"]) == 10
    assert result["speed_ratio"]["lower"] <= result["score"] <= result["speed_ratio"]["upper"]
    text = curriculum.as_text(
        {"suite": "curriculum", "preset": "smoke", "cells": [{"task": "t", **result}], "failed": []}
    )
    assert "trust-constr takes" in text
