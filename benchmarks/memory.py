"""The memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def reset_peak() -> None:
    """Let the peak of this process's memory start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """Return the peak of resident memory since the start or ``reset_peak``, in MiB."""
    return _status("VmHWM")


def resident_megabytes() -> float:
    """Return the resident memory, in MiB."""
    return _status("VmRSS")


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}: memory is measured on Linux only")
