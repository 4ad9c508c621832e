"""Trainings of a fraction of a second, sound and unsound ones, that other processes can import."""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from entroreg.atomic import write_json
from entroreg.benchmarks.trust.kills import Inspection, Training

STEPS, EVERY = 60, 10
STATE, MARK = "state.json", "saving-"


def toy(kind: str) -> Training:
    """Return a training that is ``sound``, tears its state when killed in a save, or forgets what it had summed."""
    return Training(partial(_start, kind), _saves, _inspect, _outcome)


def _start(kind: str, folder: Path) -> int:
    folder.mkdir(exist_ok=True)
    state = json.loads((folder / STATE).read_text()) if (folder / STATE).exists() else {"step": 0, "sum": 0}
    if kind == "forgetful":
        state["sum"] = 0
    while state["step"] < STEPS:
        time.sleep(0.005)
        state = {"step": state["step"] + 1, "sum": state["sum"] + state["step"] ** 2}
        if state["step"] % EVERY == 0:
            mark = folder / f"{MARK}{os.getpid()}-{state['step']}"
            mark.touch()
            _save(kind, folder / STATE, state)
            mark.unlink()
    return 0


def _save(kind: str, path: Path, state: dict[str, Any]) -> None:
    if kind != "tearing":
        time.sleep(0.05)
        write_json(path, state)
        return
    text = json.dumps(state)
    with path.open("w") as file:
        file.write(text[:9])
        file.flush()
        time.sleep(0.05)
        file.write(text[9:])


def _saves(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.glob(f"{MARK}*"))


def _inspect(folder: Path) -> Inspection:
    try:
        json.loads((folder / STATE).read_text())
    except FileNotFoundError:
        return Inspection()
    except ValueError:
        return Inspection((STATE,))
    return Inspection()


def _outcome(folder: Path) -> dict[str, str]:
    return {STATE: hashlib.sha256((folder / STATE).read_bytes()).hexdigest()}
