"""The cell, which is one seed of one method on one task: where it runs, and how it is known to be done."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from entroreg.atomic import write_json

__all__ = [
    "RESULT",
    "Cell",
    "Suite",
    "error_of",
    "failed_cells",
    "failures_as_text",
    "gather_results",
    "is_done",
    "read_result",
    "write_failure",
    "write_result",
]

RESULT = "result.json"
FAILURE = "failed.json"  # of a cell that is not done: why


@dataclass(frozen=True)
class Cell:
    """One run of a benchmark.

    Raises:
        TypeError: a name is no string, or the seed no integer.
        ValueError: a name is empty, ``.`` or ``..``, or the seed is negative.
    """

    suite: str
    """The suite's name."""
    preset: str
    """The size of the run: ``smoke``, ``small`` or ``paper``."""
    task: str
    """What is solved, such as ``HalfCheetah-v5``."""
    method: str
    """What solves it, such as ``sac``."""
    seed: int
    """The seed, from 0."""

    def __post_init__(self) -> None:
        for field in ("suite", "preset", "task", "method"):
            _check_name(field, getattr(self, field))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise TypeError(f"seed must be an int, got {type(self.seed).__name__}: use int(seed)")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}: seeds count from 0")

    def folder(self, root: Path) -> Path:
        """The cell's folder, ``root/suite/method/task/seed-k``, the same for every preset.

        A name that is no plain file name is percent-encoded: ``a/b`` becomes ``a%2Fb``, one folder, not two.

        Args:
            root: the folder of all runs.

        Returns:
            The folder, which need not exist.

        Example:
            >>> Cell("rl", "smoke", "entroreg/Navigation-v0", "sac", 3).folder(Path("runs")).as_posix()
            'runs/rl/sac/entroreg%2FNavigation-v0/seed-3'
        """
        names = (quote(name, safe=" ()+,=@") for name in (self.suite, self.method, self.task))
        return Path(root, *names, f"seed-{self.seed}")


class Suite(Protocol):
    """What a benchmark suite offers; a module with these two functions is one."""

    def cells(self, preset: str) -> list[Cell]:
        """All cells of a preset."""
        ...

    def run(self, cell: Cell, folder: Path) -> None:
        """Run one cell in its folder and, as the last act, call `write_result`."""
        ...


def is_done(folder: Path) -> bool:
    """Whether the cell of a folder is done, that is, whether its result was written."""
    return (folder / RESULT).is_file()


def read_result(folder: Path) -> dict[str, Any]:
    """The result of a finished cell.

    Args:
        folder: the cell's folder.

    Raises:
        FileNotFoundError: the cell is not done.
        ValueError: the result is no JSON object.
    """
    path = folder / RESULT
    try:
        result = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} must hold a JSON object, got {error}: remove it and run the cell again"
        ) from error
    if not isinstance(result, dict):
        got = type(result).__name__
        raise ValueError(f"{path} must hold a JSON object, got a {got}: remove it and run the cell again")
    return result


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result of a cell in one step, which is what marks it as done.

    Args:
        folder: the cell's folder, which exists.
        result: what JSON can hold, with string keys and finite numbers.

    Raises:
        TypeError: the result is no mapping, or holds what JSON cannot.
        ValueError: a number is NaN or infinite.
        OSError: writing failed; the cell is not done.
    """
    if not isinstance(result, Mapping):
        raise TypeError(f"result must be a mapping, got {type(result).__name__}: pass a dict")
    write_json(folder / RESULT, dict(result))


def _check_name(field: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{field} must be a str, got {type(name).__name__}: use str({field})")
    if name in {"", ".", ".."}:
        raise ValueError(f"{field} must be a name, got {name!r}: it becomes a folder's")


def gather_results(cells: Sequence[Cell], out: Path) -> dict[str, Any]:
    """Return the results of the cells that are done, and what failed: the summary of a suite without scores.

    Args:
        cells: all cells of a preset, done or not.
        out: folder of all runs.

    Returns:
        ``cells``: every result with its task, method and seed; ``failed``: as `failed_cells` has it.
    """
    return {
        "cells": [
            {**read_result(cell.folder(out)), "task": cell.task, "method": cell.method, "seed": cell.seed}
            for cell in cells
            if is_done(cell.folder(out))
        ],
        "failed": failed_cells(cells, out),
    }


def write_failure(folder: Path, error: str) -> None:
    """Write down why a cell is not done; a result that it left is set aside, so that it counts as not done.

    Args:
        folder: the cell's folder, which exists.
        error: what went wrong, one line.
    """
    if is_done(folder):
        os.replace(folder / RESULT, folder / f"{RESULT}.failed")
    write_json(folder / FAILURE, {"error": error})


def failed_cells(cells: Sequence[Cell], out: Path) -> list[dict[str, Any]]:
    """Return the cells without a result: task, method, seed, folder and, of those that began, the error or None.

    Args:
        cells: all cells of a preset, done or not.
        out: folder of all runs.
    """
    return [
        {
            "task": cell.task,
            "method": cell.method,
            "seed": cell.seed,
            "folder": str(cell.folder(out)),
            "error": error_of(cell.folder(out)),
        }
        for cell in cells
        if not is_done(cell.folder(out))
    ]


def error_of(folder: Path) -> str | None:
    """The error that a cell failed with, None if it did not fail."""
    try:
        return str(json.loads((folder / FAILURE).read_bytes())["error"])
    except FileNotFoundError:
        return None


def failures_as_text(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines that name the folders of cells that failed or are not done, none where all are."""
    if not failed:
        return []
    begun = [f"  {cell['folder']}: {cell['error']}" for cell in failed if cell["error"] is not None]
    rest = [f"  {cell['folder']}" for cell in failed if cell["error"] is None]
    lines = [f"failed: {len(begun)} cells; each folder has a stderr.log", *begun] if begun else []
    return lines + ([f"not done: {len(rest)} cells; run again to go on", *rest] if rest else [])
