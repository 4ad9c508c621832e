"""Copies of good runs, damaged, to be evaluated or resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cases import Case
from good_ground import RUNS

COPY = Path("copied")


def copied_run(verb: str, name: str, about: str, damage: Callable[[Path], None], place: Path | None = None) -> Case:
    """Return the case of a verb on a copy of a run, damaged.

    Args:
        verb: eval or resume; what is resumed has no result yet.
        name: of the run.
        about: what is wrong.
        damage: done to the copy's folder.
        place: of the copy, beneath ``COPY`` where the run was made if left out.
    """
    folder = COPY / Path(*Path(RUNS[name]).parts[3:]) if place is None else place

    def prepare(here: Path) -> None:
        copy = here / folder
        shutil.copytree(here / RUNS[name], copy)
        (copy.parent / f".{copy.name}.lock").touch()
        if verb == "resume":
            (copy / "result.json").unlink()
        damage(copy)

    return Case(verb, about, (verb, str(folder)), prepare)


def ground_of(copy: Path) -> Path:
    """Return the folder in which a copy was made, where the goods are."""
    return next(folder for folder in copy.parents if (folder / "goods").exists())
