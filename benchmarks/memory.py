"""The memory of this process, as Linux counts it, and what is left for more."""

from __future__ import annotations

import os
from pathlib import Path

from entroreg.benchmarks.errors import UserError

_MEMINFO = Path("/proc/meminfo")


def require_memory(name: str, needed: int, advice: str) -> None:
    """Refuse what would not fit the memory that is free, before any of it is taken.

    Args:
        name: what needs it.
        needed: bytes.
        advice: what to ask for in its place.

    Raises:
        UserError: there is less.
    """
    free = available_bytes()
    if needed > free:
        raise UserError(
            f"{name} must fit the {_gigabytes(free)} of memory that are free, got {_gigabytes(needed)}: {advice}"
        )


def available_bytes() -> int:
    """Return the memory that is free without swapping; elsewhere than on Linux, all that the machine has."""
    if not _MEMINFO.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = (line.split() for line in _MEMINFO.read_text().splitlines())
    return next(int(row[1]) for row in rows if row[0] == "MemAvailable:") * 1024


def reset_peak() -> None:
    """Let the peak of this process's memory start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """Return the peak of resident memory since the start or ``reset_peak``, in MiB."""
    return _status("VmHWM")


def resident_megabytes() -> float:
    """Return the resident memory, in MiB."""
    return _status("VmRSS")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}: memory is measured on Linux only")
