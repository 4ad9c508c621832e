"""A suite's folder among the runs: which launch it belongs to, held by one process, and where its cells stand."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from entroreg.atomic import write_json
from entroreg.benchmarks.cells import RESULT, error_of, is_done
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.runner import TOKEN, is_running

__all__ = ["FORMAT", "Launch", "State", "held", "launches_in", "read_launch", "seconds_of", "state_of"]

FORMAT = 1
"""Of the folder; another one is refused, never mixed."""
_LAUNCH, _LOCK = "bench.json", ".lock"

State = Literal["done", "failed", "running", "stopped", "waiting"]
Preset = Literal["smoke", "small", "paper"]
Chosen = tuple[str, str, int]
"""Task, method and seed of a cell."""


@dataclass(frozen=True)
class Launch:
    """What a suite's folder was made for."""

    suite: str
    """Its name, or the module of a suite that is not ours."""
    preset: Preset
    """Its size."""
    seeds: int | None = None
    """Seeds of each method, the preset's own number if None."""
    whole: bool = True
    """Whether all cells were asked for."""
    chosen: tuple[Chosen, ...] = ()
    """Cells that were asked for by name, beyond or in place of all."""


@contextmanager
def held(folder: Path, launch: Launch) -> Iterator[Launch]:
    """Hold a suite's folder for this process alone, and write down what it is for.

    Args:
        folder: OUT/SUITE; made if need be.
        launch: of this process; the number of seeds may differ from an earlier one's.

    Yields:
        The launch, joined with what the folder was for before.

    Raises:
        UserError: another process holds the folder, or it belongs to another preset, suite or version.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder} is being written by another process: wait for it, or choose another --out folder"
            ) from error
        before = read_launch(folder)
        if before is not None and (before.suite, before.preset) != (launch.suite, launch.preset):
            raise UserError(
                f"{folder} must hold suite {launch.suite} with preset {launch.preset}, got {before.suite} with "
                f"{before.preset}: choose another --out folder"
            )
        if before is not None:
            launch = _joined(before, launch)
        for token in folder.glob(f"{TOKEN}*"):  # of a launch that was killed: its jobs on a cluster shall not begin
            token.unlink(missing_ok=True)
        write_json(folder / _LAUNCH, {"format": FORMAT, **asdict(launch)})
        yield launch


def _joined(before: Launch, launch: Launch) -> Launch:
    chosen = tuple(dict.fromkeys([*before.chosen, *launch.chosen]))
    return replace(launch if launch.whole else before, chosen=chosen)


def read_launch(folder: Path) -> Launch | None:
    """Return what a suite's folder was made for, None if it is none.

    Raises:
        UserError: it was written by another version.
    """
    path = folder / _LAUNCH
    try:
        found: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} must be written by 'entroreg bench run', got {error}") from error
    version = found.get("format") if isinstance(found, dict) else found
    if version != FORMAT:
        raise UserError(
            f"{path} must be of format {FORMAT}, got {version!r}: another version of entroreg wrote it; use that "
            "version, or choose another --out folder"
        )
    try:
        chosen = tuple((task, method, seed) for task, method, seed in found.pop("chosen", ()))
        return Launch(**{name: value for name, value in found.items() if name != "format"}, chosen=chosen)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} must be written by 'entroreg bench run', got {found}") from error


def launches_in(out: Path) -> dict[str, Launch]:
    """Return the launches of a folder by the names of their folders.

    Args:
        out: folder of all runs.

    Raises:
        UserError: it is no folder, or one was written by another version.
    """
    if not out.is_dir():
        raise UserError(
            f"{out} must be a folder of results, got none: give the --out folder of 'entroreg bench run'"
        )
    found = {path.name: read_launch(path) for path in sorted(out.iterdir()) if path.is_dir()}
    return {name: launch for name, launch in found.items() if launch is not None}


def state_of(folder: Path) -> State:
    """Return where a cell stands: one that was killed or told to stop is ``stopped``."""
    if is_done(folder):
        return "done"
    if is_running(folder):
        return "running"
    if error_of(folder) is not None:
        return "failed"
    return "stopped" if folder.exists() else "waiting"


def seconds_of(folder: Path) -> float | None:
    """Return how long a cell took that is done, from its begin to its result, None where no begin is known."""
    try:
        started = datetime.fromisoformat(json.loads((folder / "meta.json").read_bytes())["started"])
    except (FileNotFoundError, KeyError, ValueError):
        return None
    return max(0.0, (folder / RESULT).stat().st_mtime - started.timestamp())
