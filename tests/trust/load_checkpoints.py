"""Load hostile checkpoints one after another, under a limit of memory and of time, a line of JSON for each.

Run as ``python load_checkpoints.py <folder> <first> <stop>``: case k is a function of k alone. A case that takes
longer than ``SECONDS`` ends the process by SIGALRM, and so does one that crashes; the last line says which it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoint_damage import DAMAGES
from checkpoint_forgeries import FORGERIES

from entroreg.checkpoint import Table, load_checkpoint, save_checkpoint

SECONDS = 10
UNCHANGEABLE = (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError, MemoryError)
MEMORY = 1 << 30  # more than the process has when it begins
VERSION_1 = Path(__file__).parents[1] / "core" / "data" / "checkpoint_version_1"


def _table(block_rows: int = 10) -> Table:
    return Table(np.zeros((100, 3), np.float32), block_bytes=block_rows * 12)


def make_originals(folder: Path) -> list[Path]:
    """Make what is damaged: a checkpoint with tables, one without, and one of version 1."""
    tensors = {
        "weight": torch.arange(12.0).reshape(3, 4),
        "half": torch.ones(5, dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 3),
    }
    metadata = {"agent": "SAC", "state": {"a": [1, 2.5, None, "x", True], "b": {"__tensor__": "weight"}}}
    replay, other = _table(), _table()
    replay.rows[...] = np.arange(300).reshape(100, 3)
    replay.filled, other.filled = 55, 20
    save_checkpoint(folder / "tables", tensors, metadata, tables={"replay": replay, "other": other})
    save_checkpoint(folder / "plain", tensors, metadata)
    shutil.copytree(VERSION_1, folder / "version_1")
    return [folder / "tables", folder / "tables", folder / "plain", folder / "version_1"]


def load(folder: Path, with_tables: bool) -> str:
    """Load a checkpoint; return the hash of all that came."""
    tables = {"replay": _table(), "other": _table(7)} if with_tables else {}
    tensors, metadata = load_checkpoint(folder, tables=tables)
    found = hashlib.sha256(repr(metadata).encode("utf-8", "surrogatepass"))
    for name, tensor in sorted(tensors.items()):
        found.update(repr((name, tensor.dtype, tensor.shape)).encode("utf-8", "surrogatepass"))
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    for table in tables.values():
        found.update(table.rows[: table.filled].tobytes())
    return found.hexdigest()


def change(rng: random.Random, folder: Path) -> dict[str, Any]:
    """Damage or forge a checkpoint; return the names of what was done."""
    changes = rng.choices(rng.choice([DAMAGES, FORGERIES]), k=1) if rng.random() < 0.8 else rng.sample(FORGERIES, 2)
    with contextlib.suppress(*UNCHANGEABLE):
        for one in changes:
            one(rng, folder)
    return {"changes": [one.__name__ for one in changes], "is_damage": set(changes) <= set(DAMAGES)}


def outcome(folder: Path, original: Path, with_tables: bool) -> dict[str, Any]:
    """Load a checkpoint and return what came of it, and how much memory that took at most."""
    signal.alarm(SECONDS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, message = _status("VmRSS"), ""
    try:
        kind = "same" if load(folder, with_tables) == load(original, with_tables) else "returned"
    except BaseException as error:  # whatever comes is what the test looks for
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        message = str(error)[:300]
    peak = _status("VmHWM") - before
    signal.alarm(0)
    return {"outcome": kind, "message": message, "peak": peak}


def _status(field: str) -> int:
    """A size that the kernel keeps of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def main(folder: Path, first: int, stop: int) -> None:
    """Run the cases ``first`` to ``stop``."""
    os.chdir(folder)  # a socket's path must be short
    torch.set_num_threads(1)
    originals = make_originals(folder)
    for original in originals:
        load(original, original.name == "tables")
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + MEMORY,) * 2)
    case = folder / "case"
    for number in range(first, stop):
        rng = random.Random(number)
        original = rng.choice(originals)
        shutil.copytree(original, case / "last")
        report = {"case": number, **change(rng, case / "last")}
        print(json.dumps(report), flush=True)
        report |= outcome(case / "last", original, original.name == "tables" and rng.random() < 0.7)
        report["executed"] = (case / "canary").exists()
        print(json.dumps(report), flush=True)
        shutil.rmtree(case)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
