"""Files that are wholly the old ones or wholly the new ones, whatever happens while they are written."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["fsync_folder", "write_bytes", "write_json"]


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` in one step: a reader sees the old file or the new one, never a part.

    Args:
        path: the file; its folder must exist.
        data: the whole contents.

    Raises:
        OSError: the file could not be written. The old one is untouched and no temporary file is left;
            only when the last step (the fsync of the folder) fails is the new one already in place.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bytes(Path(folder, "a"), b"new")
        ...     Path(folder, "a").read_bytes()
        b'new'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with temporary.open("xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # also on Ctrl-C: whatever stops the write, the temporary file goes
            temporary.unlink(missing_ok=True)
            raise
    fsync_folder(path.parent)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as sorted, indented JSON by `write_bytes`; tuples become lists.

    Args:
        path: the file; its folder must exist.
        value: dicts with string keys, lists, tuples, strings, finite numbers, booleans and None.

    Raises:
        ValueError: a number is NaN or infinite; the message names where it stands.
        TypeError: a key is no string, or JSON has no form for a value.
        OSError: as `write_bytes`.
    """
    _check_json(value, "value")
    text = json.dumps(value, allow_nan=False, indent=2, sort_keys=True)
    write_bytes(path, f"{text}\n".encode())


def fsync_folder(path: str | os.PathLike[str]) -> None:
    """Wait until the names in a folder are on disk, as after a rename.

    Args:
        path: the folder.

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_json(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value}: JSON has no such number, so write None instead")
    if isinstance(value, Mapping):
        for key, item in value.items():
            # json.dumps would turn the key 1 into "1", and the value read back would be another.
            if not isinstance(key, str):
                raise TypeError(f"{where} must have string keys, got {key!r}: JSON has no others, so use str(key)")
            _check_json(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]")
