"""Steps of QARL's curriculum: the bracketed search against SciPy's trust-constr, on random problems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.cells import Cell, failures_as_text, gather_results, write_result
from entroreg.benchmarks.readings import Quantity, Reading, of_rounds

NAME = "curriculum"
SEARCH = Quantity("step of the curriculum", "ms", "lower", "round", is_time=True)
MOST_JOBS = 1  # cells that ran at once would slow each other
PROBLEMS = {"smoke": 10, "small": 200, "paper": 1000}
ROUNDS = 3
OURS_TOLERANCE, SCIPY_TOLERANCE = 1e-9, 1e-6  # of feasibility: nats, and parts of the largest return
MARGIN = 1e-6  # by which one objective is worse than another: of it, or nats where it is below 1

summarise = gather_results


def cells(preset: str) -> list[Cell]:
    """Return the one cell: all problems of a seed, solved in turn by both."""
    return [Cell(NAME, preset, "random-problems", "bracketed-against-trust-constr", 0)]


def run(cell: Cell, folder: Path) -> None:
    """Solve the problems of a seed and write the result."""
    from entroreg.benchmarks.curriculum.problems import random_problem
    from entroreg.benchmarks.curriculum.solvers import bracketed, timed, trust_constr

    solvers = (bracketed, trust_constr)
    problems = [random_problem(cell.seed, index) for index in range(PROBLEMS[cell.preset])]
    timed(solvers, problems[0], ROUNDS)  # the first calls load and fill caches
    rows = []
    for problem in problems:
        (ours, our_seconds), (scipy, scipy_seconds) = timed(solvers, problem, ROUNDS)
        rows.append(
            {
                "kind": problem.kind,
                "old": problem.old,
                "pieces": problem.pieces(),
                "ours": {
                    "shape": ours,
                    "objective": problem.objective(ours),
                    "feasible": problem.is_feasible(ours, OURS_TOLERANCE),
                    "seconds": our_seconds,
                },
                "scipy": {
                    "shape": scipy,
                    "objective": problem.objective(scipy),
                    "feasible": problem.is_feasible(scipy, SCIPY_TOLERANCE),
                    "seconds": scipy_seconds,
                },
            }
        )
    write_result(folder, {"seed": cell.seed, "rounds": ROUNDS, **_counts(rows), "problems": rows})


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [f"suite {summary['suite']}, preset {summary['preset']}: bracketed search against SciPy's trust-constr"]
    for cell in summary["cells"]:
        ratio, total = cell["speed_ratio"], len(cell["problems"])
        lines += [
            f"{cell['task']}, seed {cell['seed']}: {total} problems, {cell['two_pieces']} with a feasible set in "
            "two or more pieces",
            f"  {'':14}{'infeasible':>12}{'worse':>8}{'worse by 1 %':>14}{'median ms':>12}",
            *(
                f"  {name:14}{cell[f'{key}_infeasible']:12}{cell[f'{key}_worse']:8}"
                f"{cell[f'{key}_worse_by_percent']:14}{cell[f'{key}_ms']:12.2f}"
                for key, name in (("ours", "bracketed"), ("scipy", "trust-constr"))
            ),
            f"  trust-constr takes {ratio['median']:.1f} times as long (quartiles {ratio['lower']:.1f} and "
            f"{ratio['upper']:.1f})",
        ]
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _counts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = [row["scipy"]["seconds"] / row["ours"]["seconds"] for row in rows]
    lower, median, upper = (round(float(value), 3) for value in np.quantile(ratios, (0.25, 0.5, 0.75)))
    counts: dict[str, Any] = {
        "score": median,
        "speed_ratio": {"median": median, "lower": lower, "upper": upper},
        "two_pieces": sum(row["pieces"] >= 2 for row in rows),
    }
    for name, other in (("ours", "scipy"), ("scipy", "ours")):
        counts[f"{name}_infeasible"] = sum(not row[name]["feasible"] for row in rows)
        counts[f"{name}_worse"] = sum(_is_worse(row[name], row[other], MARGIN) for row in rows)
        counts[f"{name}_worse_by_percent"] = sum(_is_worse(row[name], row[other], 0.01) for row in rows)
        counts[f"{name}_ms"] = round(1e3 * float(np.median([row[name]["seconds"] for row in rows])), 3)
    return counts


def _is_worse(one: dict[str, Any], other: dict[str, Any], margin: float) -> bool:
    """Whether one objective is larger than that of another solution, which is feasible."""
    return bool(other["feasible"] and one["objective"] > other["objective"] + margin * max(1.0, other["objective"]))


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured, a value of each method for each round."""
    problems = cell["problems"]
    solvers = {"bracketed": "ours", "trust-constr": "scipy"}
    return of_rounds(
        SEARCH, {name: [row[key]["seconds"] for row in problems] for name, key in solvers.items()}, 1e3
    )
