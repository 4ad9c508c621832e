"""Two solvers of a step of the curriculum: the bracketed search, and trust-constr in the authors' setting."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter

import numpy as np
from scipy.optimize import NonlinearConstraint, minimize
from scipy.special import digamma, polygamma

from entroreg.benchmarks.curriculum.problems import MAX_KL, RATE, TARGET, Problem
from entroreg.curriculum import gamma_kl, nearest_feasible, trust_region

Solver = Callable[[Problem], float]
_SMALLEST = 1e-8  # the authors' bound on k


def bracketed(problem: Problem) -> float:
    """Return the shape that a step of ``GammaCurriculum`` takes."""
    low, high = trust_region(problem.old, MAX_KL)

    def slack(shapes: np.ndarray) -> np.ndarray:
        return problem.expected_return(shapes) - problem.floor

    return nearest_feasible(low, high, TARGET, slack, start=problem.old)


def trust_constr(problem: Problem) -> float:
    """Return the shape that SciPy finds from the old one, with exact gradients.

    As in the authors' code, a run that does not converge counts only if it is feasible and an improvement; else
    the old shape stays.
    """
    old, logs = problem.old, np.log(RATE * problem.temperatures)

    def gradient_from(other: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda k: (k - other) * polygamma(1, k)

    def return_gradient(k: np.ndarray) -> np.ndarray:
        weighted = Problem(old, problem.temperatures, problem.returns * (logs - digamma(k)), 0.0, "")
        return weighted.expected_return(k)

    limits = (
        NonlinearConstraint(lambda k: gamma_kl(k, old), -np.inf, MAX_KL, jac=gradient_from(old)),
        NonlinearConstraint(problem.expected_return, problem.floor, np.inf, jac=return_gradient),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of quasi-Newton updates that are left out, and singular Jacobians
        found = minimize(
            lambda k: float(gamma_kl(k[0], TARGET)),
            np.array([old]),
            method="trust-constr",
            jac=gradient_from(TARGET),
            bounds=[(_SMALLEST, np.inf)],
            constraints=limits,
            options={"gtol": 1e-4, "xtol": 1e-6},
        )
    shape = float(found.x[0])
    better = problem.is_feasible(shape, 0.0) and problem.objective(shape) < problem.objective(old)
    return shape if found.success or better else old


def timed(solvers: tuple[Solver, ...], problem: Problem, rounds: int) -> list[tuple[float, float]]:
    """Return what each solver found and its median time in seconds; the solvers take turns."""
    seconds: list[list[float]] = [[] for _ in solvers]
    found = [0.0 for _ in solvers]
    for _ in range(rounds):
        for index, solver in enumerate(solvers):
            start = perf_counter()
            found[index] = solver(problem)
            seconds[index].append(perf_counter() - start)
    return [(shape, float(np.median(times))) for shape, times in zip(found, seconds, strict=True)]
