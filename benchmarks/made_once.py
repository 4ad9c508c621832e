"""What several cells need is made by the first of them, while the others wait."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["made_once"]


@contextmanager
def made_once(path: Path) -> Iterator[Path | None]:
    """Give one process a folder to fill, which is renamed to ``path`` afterwards; the others wait and get None.

    Args:
        path: of the folder; its parent is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            yield None
            return
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.mkdir()
        yield fresh
        fresh.rename(path)
