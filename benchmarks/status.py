"""Where the cells of a folder stand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from entroreg.benchmarks.bench import cells_of, load_suite
from entroreg.benchmarks.bench_folder import launches_in, state_of
from entroreg.benchmarks.cells import error_of
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.time_left import time_left

__all__ = ["as_text", "status"]


def status(out: Path) -> list[dict[str, Any]]:
    """Return for each suite of a folder where its cells stand.

    Args:
        out: the --out of ``bench run``.

    Returns:
        For each suite its name, preset, number of cells by state (done, running, failed, stopped, waiting), what is
        left to do as a line, and ``rows``: task, method, states and the errors by seed.

    Raises:
        UserError: there is none, or one is of another version.
    """
    launches = launches_in(out)
    if not launches:
        raise UserError(f"{out} must hold results of 'entroreg bench run', got none: give its --out folder")
    found = []
    for launch in launches.values():
        cells = cells_of(launch)
        states = {cell: state_of(cell.folder(out)) for cell in cells}
        rows = []
        for task, method in dict.fromkeys((cell.task, cell.method) for cell in cells):
            of_row = [cell for cell in cells if (cell.task, cell.method) == (task, method)]
            errors = {cell.seed: error_of(cell.folder(out)) for cell in of_row if states[cell] == "failed"}
            counts = dict(Counter(states[cell] for cell in of_row))
            rows.append({"task": task, "method": method, "states": counts, "errors": errors})
        found.append(
            {
                "suite": launch.suite,
                "preset": launch.preset,
                "states": dict(Counter(states.values())),
                "left": time_left(launch, cells, out, 1, len(load_suite(launch.suite).cells(launch.preset))),
                "rows": rows,
            }
        )
    return found


def as_text(found: list[dict[str, Any]]) -> str:
    """Return what `status` found as lines for a terminal."""
    lines = []
    for suite in found:
        lines.append(suite["left"])
        for row in suite["rows"]:
            seeds = sum(row["states"].values())
            others = [f"{count} {state}" for state, count in row["states"].items() if state != "done"]
            text = f"  {row['task']:32} {row['method']:24} {row['states'].get('done', 0)} of {seeds} seeds"
            lines.append("   ".join([text, *others]))
            lines += [f"    seed {seed}: {error}" for seed, error in row["errors"].items()]
    return "\n".join(lines)
