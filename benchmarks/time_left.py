"""How long a suite will take: from the cells that are done, or before there are any from the suite's own figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from entroreg.benchmarks.bench_folder import Launch, seconds_of
from entroreg.benchmarks.cells import Cell, is_done
from entroreg.benchmarks.suites import MINUTES

__all__ = ["time_left"]


def time_left(launch: Launch, cells: Sequence[Cell], out: Path, jobs: int, of_preset: int) -> str:
    """Return a line that says how many cells there are and about how long the rest takes.

    Args:
        launch: of the cells.
        cells: that are asked for.
        out: folder of all runs.
        jobs: cells at once.
        of_preset: how many cells the whole preset has.
    """
    done = [cell for cell in cells if is_done(cell.folder(out))]
    left = len(cells) - len(done)
    head = f"suite {launch.suite}, preset {launch.preset}: {len(cells)} cells, {len(done)} done"
    if not left:
        return head
    own = MINUTES.get(launch.suite, {}).get(launch.preset)
    took = [seconds for seconds in (seconds_of(cell.folder(out)) for cell in done) if seconds is not None]
    if took:
        minutes = sum(took) / len(took) * left / 60
        source = "by those that are done"
    elif own is not None:
        minutes, source = own * left / of_preset, "by the suite's own figure"
    else:
        return f"{head}; how long they take is not known before the first is done"
    return f"{head}; the rest takes about {_duration(minutes / min(jobs, left))} with {jobs} at once, {source}"


def _duration(minutes: float) -> str:
    return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{max(1, round(minutes))} min"
