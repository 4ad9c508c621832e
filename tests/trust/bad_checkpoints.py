"""Run folders with a damaged checkpoint: cut, changed, swapped, or with contents that no run writes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cases import Case
from good_ground import RUNS, TRAININGS
from run_copies import copied_run, ground_of

_FILES = ("manifest.json", "metadata.json", "tensors.safetensors")
_FACTS = {
    "sac": ("agent", "num_timesteps", "n_updates", "training", "notes"),
    "discrete-sac": ("agent", "num_timesteps", "n_updates", "training", "notes"),
    "qarl": ("arguments", "state"),
    "rarl": ("arguments", "state"),
    "rlvr": ("agent", "before", "phase", "rows", "seconds", "state", "warmed"),
    "distill": ("agent", "rows", "seconds", "trainer"),
}
"""What the checkpoint of a run tells beside its tensors, all of it needed to go on."""
_NUMBERS = {"num_timesteps", "n_updates", "rows", "seconds"}
_WRONG_FACTS = (3, "text", [], {}, None)


def checkpoint_cases() -> Iterator[Case]:
    """Yield runs of every kind with a checkpoint that is no good."""
    for kind in TRAININGS:
        for verb in ("eval", "resume"):
            if (verb, kind) == ("resume", "mil"):  # which has none any more once its folds are done
                continue
            for name in _FILES:
                for about, damage in _DAMAGES.items():
                    yield copied_run(verb, kind, f"checkpoint that is {about}", partial(_damage, name, damage))
            for about, change in _FOLDERS.items():
                yield copied_run(verb, kind, f"checkpoint that is {about}", partial(_change_folder, change))
        for other in TRAININGS:
            # Of qarl and rarl the checkpoint itself says which of them it is.
            if other != kind and {kind, other} != {"qarl", "rarl"}:
                yield copied_run("eval", kind, "checkpoint of another kind", partial(_swap, other))
    for kind, facts in _FACTS.items():
        for fact in facts:
            for wrong in _WRONG_FACTS[1:] if fact in _NUMBERS else _WRONG_FACTS:
                yield copied_run("resume", kind, "checkpoint that tells nonsense", partial(_forge, fact, wrong))
            yield copied_run(
                "resume", kind, "checkpoint that tells too little", partial(_forge, fact, None, drop=True)
            )


def _checkpoints(copy: Path) -> list[Path]:
    return [path for path in (copy / "checkpoints").iterdir() if not path.name.endswith("previous")]


def _damage(name: str, damage: Callable[[Path], None], copy: Path) -> None:
    for folder in _checkpoints(copy):
        damage(folder / name)
    for student in copy.glob("student.safetensors"):
        damage(student)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 0xFF  # in the header of a student, whose tensors nothing guards
    path.write_bytes(data)


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_link(target: str, path: Path) -> None:
    path.unlink()
    path.symlink_to(target)


_DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": _cut,
    "emptied": lambda path: path.write_bytes(b""),
    "changed": _flip,
    "without a file": Path.unlink,
    "with a folder for a file": _replace_by_folder,
    "with a link to nothing": partial(_replace_by_link, "gone"),
    "with /dev/null for a file": partial(_replace_by_link, os.devnull),
}


def _change_folder(change: Callable[[Path], None], copy: Path) -> None:
    for older in (copy / "checkpoints").glob("*.previous"):  # which a reader takes where the last one is gone
        shutil.rmtree(older)
    for folder in _checkpoints(copy):
        change(folder)
    for student in copy.glob("student.safetensors"):
        student.unlink()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _as_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def _as_loop(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.name)


_FOLDERS: dict[str, Callable[[Path], None]] = {"an empty folder": _empty, "a file": _as_file, "a loop": _as_loop}


def _swap(other: str, copy: Path) -> None:
    """Give a run the checkpoints of a run of another kind."""
    shutil.rmtree(copy / "checkpoints")
    shutil.copytree(ground_of(copy) / RUNS[other] / "checkpoints", copy / "checkpoints")
    for student in copy.glob("student.safetensors"):
        student.write_bytes(b"")


def _forge(fact: str, value: Any, copy: Path, drop: bool = False) -> None:
    """Change what a checkpoint tells, and its hashes with it."""
    folder = copy / "checkpoints" / "last"
    told = json.loads((folder / "metadata.json").read_bytes())
    if drop:
        del told["metadata"][fact]
    else:
        told["metadata"][fact] = value
    (folder / "metadata.json").write_text(json.dumps(told))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, of_file in manifest["files"].items():
        data = (folder / name).read_bytes()
        of_file |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
