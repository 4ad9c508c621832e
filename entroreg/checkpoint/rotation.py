"""The new checkpoint takes its place, the one there steps back, and so do those behind it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from entroreg.atomic import fsync_folder
from entroreg.checkpoint.names import MANIFEST, hidden, left_hidden, older, older_ones

__all__ = ["refuse_strangers", "remove_hidden", "remove_surplus", "swap"]


def refuse_strangers(path: Path, keep: int) -> None:
    """Raise a FileExistsError where something that is no checkpoint stands where one is to be moved or replaced."""
    for place in (path, *(older(path, number) for number in range(1, keep + 1))):
        if os.path.lexists(place) and not (place / MANIFEST).is_file():
            raise FileExistsError(
                f"{place} is no checkpoint (it has no {MANIFEST}): choose another folder, or remove this one"
            )


def swap(fresh: Path, path: Path, keep: int) -> None:
    """Rename ``fresh`` to ``path``, after what stands there was moved on; all is moved back where that fails."""
    moves = [*_steps_back(path, keep), (fresh, path)]
    try:
        for source, target in moves:
            os.rename(source, target)
    except BaseException:  # also on Ctrl-C: a save that fails leaves every older checkpoint where it was
        for source, target in reversed(moves):
            if os.path.lexists(target) and not os.path.lexists(source):
                os.rename(target, source)
        raise
    fsync_folder(path.parent)


def remove_surplus(path: Path, keep: int) -> None:
    """Hide the checkpoints that are older than those to keep; `remove_hidden` then removes them."""
    for number, place in older_ones(path).items():
        if number > keep and (place / MANIFEST).is_file():
            os.rename(place, hidden(path))


def remove_hidden(path: Path) -> None:
    """Remove what this save, or one that was killed, left beside the checkpoint."""
    for place in left_hidden(path):
        if place.is_symlink():
            place.unlink()
        else:
            shutil.rmtree(place)


def _steps_back(path: Path, keep: int) -> list[tuple[Path, Path]]:
    """Return the renames that free ``path``, in an order in which it or the one behind it is always there."""
    places = [path, *(older(path, number) for number in range(1, keep + 1))]
    free = next((number for number, place in enumerate(places) if not os.path.lexists(place)), None)
    # A rename, so that no half-removed one is ever seen.
    last = [(places[keep], hidden(path))] if free is None else []
    return last + [(places[number - 1], places[number]) for number in range(keep if free is None else free, 0, -1)]
