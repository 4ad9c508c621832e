"""Which files of a folder are new, by identity and time of change, and whether they are on disk."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Version", "sync_files", "versions", "written_bytes"]

Version = tuple[int, int]
"""A file's number and the time of its last change: a hard link shares both with what it links."""


def versions(folder: Path) -> dict[Version, int]:
    """Return the size of each distinct version of a file below a folder."""
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return {(status.st_ino, status.st_mtime_ns): status.st_size for status in found}


def written_bytes(before: dict[Version, int], after: dict[Version, int]) -> int:
    """Return the size of all that is new."""
    return sum(size for version, size in after.items() if version not in before)


def sync_files(folder: Path) -> None:
    """Wait until the files of a folder are on disk."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
