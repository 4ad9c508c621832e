"""The history of a run that kept all of its checkpoints: what follows each, and what each field of one is for."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from resume_oracle import differing, same, walk

from entroreg.checkpoint import Table, load_checkpoint, save_checkpoint
from entroreg.checkpoint.names import METADATA, older, older_ones
from entroreg.state_tree import join_state, split_state

LAST = Path("checkpoints", "last")
_CLOCK = re.compile(r"seconds|sampling_share")  # never the same twice


class Compared(NamedTuple):
    """How far a history is from the one that was expected."""

    steps: int
    leaves: int
    differing: dict[str, float]

    @property
    def largest(self) -> float:
        """The largest absolute difference of all leaves."""
        return max(self.differing.values(), default=0.0)

    def line(self, name: str) -> str:
        """Return the line that a test prints."""
        return f"{name}: {self.steps} steps, {self.leaves} leaves compared, largest difference {self.largest}"


def compare(expected: list[Any], found: list[Any]) -> Compared:
    """Compare two histories, a tree for each step; one without a partner differs in all of its leaves."""
    differences: dict[str, float] = {}
    count = 0
    for step in range(max(len(expected), len(found))):
        ours, theirs = (_leaves(trees[step]) if step < len(trees) else {} for trees in (expected, found))
        count += len(ours)
        differences |= {f"step {step}: {path}": gap for path, gap in differing(ours, theirs).items()}
    return Compared(len(expected), count, differences)


class Saved(NamedTuple):
    """A checkpoint in memory: its metadata with the tensors in their places, and the rows of its tables."""

    content: dict[str, Any]
    tables: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> Saved:
        """Read a checkpoint."""
        described = json.loads((folder / METADATA).read_bytes())["tables"]
        tables = {
            name: Table(np.zeros((about["rows"], *about["row_shape"]), about["dtype"]))
            for name, about in described.items()
        }
        tensors, metadata = load_checkpoint(folder, tables=tables)
        return cls(join_state(tensors, metadata), {name: table.rows for name, table in tables.items()})

    def write(self, folder: Path) -> None:
        """Write the checkpoint elsewhere."""
        tensors, metadata = split_state(self.content)
        tables = {name: Table(np.ascontiguousarray(rows)) for name, rows in self.tables.items()}
        for table in tables.values():
            table.filled = len(table.rows)
        save_checkpoint(folder, tensors, metadata, tables=tables)

    @property
    def tree(self) -> dict[str, Any]:
        """All of it as one tree."""
        return {**self.content, **({"tables": self.tables} if self.tables else {})}


def history(folder: Path) -> list[Saved]:
    """Return the checkpoints of a run that has kept all of them, oldest first."""
    numbers = sorted(older_ones(folder / LAST), reverse=True)
    return [*(Saved.read(older(folder / LAST, number)) for number in numbers), Saved.read(folder / LAST)]


@dataclass(frozen=True)
class Run:
    """A small training as the command runs it, which keeps all of its checkpoints.

    Attributes:
        name: of the trainer.
        script: with its arguments; run with a folder, it goes on there in a process of its own.
        train: from a folder, whether to go on there, and what is asked whether to stop, to whether it has ended.
        files: names of the files, besides result.json, that are left at the end and compared.
    """

    name: str
    script: tuple[str, ...]
    train: Callable[[Path, bool, Callable[[], bool]], bool]
    files: tuple[str, ...]

    def outcome(self, folder: Path) -> dict[str, Any]:
        """Return what is left at the end, without what a clock said."""
        return {name: _read(folder / name) for name in ("result.json", *self.files)}

    def after(self, past: list[Saved], number: int, whole: Path) -> list[Any]:
        """Return all that follows a checkpoint of the undisturbed run."""
        return [*past[number + 1 :], self.outcome(whole)]

    def go_on(self, whole: Path, saved: Saved, folder: Path) -> list[Any]:
        """Go on from a checkpoint in fresh objects, and return all that follows."""
        killed_after(whole, saved, folder)
        assert self.train(folder, True, lambda: False)
        return [*history(folder)[1:], self.outcome(folder)]

    def go_on_in_a_fresh_process(self, whole: Path, saved: Saved, folder: Path) -> list[Any]:
        """Go on from a checkpoint in a process of its own, and return all that follows."""
        killed_after(whole, saved, folder)
        command = [sys.executable, *self.script, str(folder)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return [*history(folder)[1:], self.outcome(folder)]

    def stopped_again_and_again(self, folder: Path, asks: Iterable[int]) -> list[Any]:
        """Stop a run, after so many questions whether to, go on, stop it again; return its whole history."""
        for count in asks:
            assert not self.train(folder, True, stop_after(count)), f"the run ended before question {count}"
        assert self.train(folder, True, lambda: False)
        past = history(folder)
        # A stop saves what a checkpoint of before has, where it takes back what was begun.
        new = [not compare([before], [after]).largest == 0.0 for before, after in pairwise(past)]
        return [
            past[0],
            *(saved for saved, is_new in zip(past[1:], new, strict=True) if is_new),
            self.outcome(folder),
        ]

    def judge(self, whole: Path, expected: list[Any], folder: Path) -> Callable[[Saved], str]:
        """Return a function that says of a checkpoint what comes of it: "", "an error" or "a difference"."""

        def judge(saved: Saved) -> str:
            try:
                found = self.go_on(whole, saved, folder)
            except Exception:
                return "an error"
            return "a difference" if compare(expected, found).largest > 0.0 else ""

        return judge


def killed_after(whole: Path, saved: Saved, folder: Path) -> None:
    """Make the folder of a run that was killed some time after a checkpoint, and not before the next rows."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("last", "last.*", "result.json", "tb", "*.png"))
    saved.write(folder / LAST)


def stop_after(count: int) -> Callable[[], bool]:
    """Return what says to stop once it has been asked so many times."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def _read(path: Path) -> Any:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        return json.loads(path.read_bytes())
    return Saved.read(path).tree if path.is_dir() else path.read_bytes()


class Power(NamedTuple):
    """What came of dropping the fields of a checkpoint one at a time."""

    dropped: list[str]
    errors: int
    unnoticed: list[str]
    same: list[str]

    def line(self, name: str) -> str:
        """Return the line that a test prints."""
        failed = len(self.dropped) - len(self.unnoticed)
        return (
            f"{name}: {len(self.dropped)} fields dropped, the oracle failed {failed} times, {self.errors} of them "
            f"by an error; {len(self.same)} fields are the same in any fresh object"
        )


def power(saved: Saved, fresh: Saved, judge: Callable[[Saved], str], every: int = 1, only: str = "") -> Power:
    """Drop every field, or every n-th, of a checkpoint, and see whether the oracle fails then.

    A field is a leaf, or a list of another length than in a fresh object. What differs in a fresh object is
    dropped: the checkpoint gets the fresh value in its place or, where a fresh object has none, lacks it.

    Args:
        saved: the checkpoint.
        fresh: that of an object that has not been trained.
        judge: says of a checkpoint what comes of it, "" where that is the undisturbed run.
        every: n.
        only: what the path of a field must have in it.
    """
    changes = [(keys, value) for keys, value in _changes(saved.tree, fresh.tree, ()) if only in _path(keys)]
    equal = [_path(keys) for keys, value in changes if value is _SAME]
    assert judge(saved) == "", "with all of its fields a run must go on as the undisturbed one"
    verdicts: dict[str, str] = {}
    for keys, value in [(keys, value) for keys, value in changes if value is not _SAME][::every]:
        without = _changed(saved.tree, keys, value)
        tables = without.pop("tables", {})
        verdicts[_path(keys)] = judge(Saved(without, tables))
    unnoticed = [path for path, verdict in verdicts.items() if not verdict]
    return Power(list(verdicts), list(verdicts.values()).count("an error"), unnoticed, equal)


_SAME, _GONE = object(), object()


def _changes(saved: Any, fresh: Any, keys: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if fresh is _GONE and not (isinstance(saved, dict) and saved):
        yield keys, _GONE
    elif isinstance(saved, dict) and saved and (fresh is _GONE or isinstance(fresh, dict)):
        for key, value in saved.items():
            yield from _changes(value, _GONE if fresh is _GONE else fresh.get(key, _GONE), (*keys, key))
    elif isinstance(saved, list | tuple) and type(saved) is type(fresh) and len(saved) == len(fresh) > 0:
        for index, (value, other) in enumerate(zip(saved, fresh, strict=True)):
            yield from _changes(value, other, (*keys, index))
    else:
        yield keys, _SAME if same(saved, fresh) else fresh


def _changed(tree: dict[str, Any], keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a tree, copied along the way, with another value in a place, or without it."""
    changed = copy.copy(tree)
    place: Any = changed
    for key in keys[:-1]:
        place[key] = list(place[key]) if isinstance(place[key], tuple) else copy.copy(place[key])
        place = place[key]
    if value is _GONE:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return changed


def _leaves(tree: Any) -> dict[str, Any]:
    tree = tree.tree if isinstance(tree, Saved) else tree
    return {path: value for path, value in walk(tree) if not _CLOCK.search(path)}


def _path(keys: tuple[Any, ...]) -> str:
    return "/".join(map(str, keys))
