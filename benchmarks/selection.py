"""Which of a suite's cells are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from entroreg.benchmarks.cells import Cell
from entroreg.benchmarks.errors import UserError, unknown_name
from entroreg.benchmarks.ranges import require_seed

__all__ = ["Selection", "selected", "with_seeds"]

_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Selection:
    """Some of a suite's cells; what is left empty stands for all."""

    task: tuple[str, ...] = ()
    """Only these tasks."""
    method: tuple[str, ...] = ()
    """Only these methods."""
    seed: tuple[int, ...] = ()
    """Only these seeds, also such as the preset does not have."""

    def __post_init__(self) -> None:
        for seed in self.seed:
            require_seed(seed)


def with_seeds(cells: Sequence[Cell], seeds: int) -> list[Cell]:
    """Return cells with the seeds 0 to ``seeds`` - 1 for each of their tasks and methods, all of a seed together.

    Raises:
        UserError: ``seeds`` is less than 1, or more than anyone runs.
    """
    if not 1 <= seeds <= _MOST_SEEDS:
        raise UserError(f"seeds must be at least 1 and at most {_MOST_SEEDS}, got {seeds}")
    firsts = list(dict.fromkeys(replace(cell, seed=0) for cell in cells))
    return [replace(cell, seed=seed) for seed in range(seeds) for cell in firsts]


def selected(cells: Sequence[Cell], only: Selection) -> list[Cell]:
    """Return the cells that are asked for.

    Raises:
        UserError: a name does not exist (the nearest ones are named), or no cell is left.
    """
    for kind, asked, known in (
        ("task", only.task, {cell.task for cell in cells}),
        ("method", only.method, {cell.method for cell in cells}),
    ):
        for name in asked:
            if name not in known:
                raise unknown_name(kind, name, known)
    left = [
        cell
        for cell in cells
        if cell.task in (only.task or (cell.task,)) and cell.method in (only.method or (cell.method,))
    ]
    if only.seed:
        left = list(dict.fromkeys(replace(cell, seed=seed) for seed in only.seed for cell in left))
    if not left:
        raise UserError("no cell has this task, method and seed: not every method is run on every task")
    return left
