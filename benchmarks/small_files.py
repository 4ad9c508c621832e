"""Files of settings, which are small: whatever else a path leads to is not read to its end."""

from __future__ import annotations

from pathlib import Path

_MOST_BYTES = 1_000_000


def read_small(path: Path) -> bytes:
    """Return what a file of settings holds.

    Raises:
        ValueError: it is longer than any such file, as a device without an end is.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        found = file.read(_MOST_BYTES + 1)
    if len(found) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES} bytes")
    return found
