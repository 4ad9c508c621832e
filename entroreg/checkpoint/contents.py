"""Files of a checkpoint, read without trust: only regular ones, and only when they are as small as was said."""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from entroreg.checkpoint.errors import CheckpointError
from entroreg.checkpoint.names import MANIFEST

__all__ = [
    "Contents",
    "check_size",
    "contents_of",
    "parse_json",
    "read_at_most",
    "read_verified",
    "shown",
    "verify",
]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


@dataclass(frozen=True)
class Contents:
    """What a file holds, known by its size in bytes and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Contents:
        """Return those of ``data``."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


def contents_of(path: Path) -> Contents:
    """Return size and hash of a file; CheckpointError where it is no regular file."""
    with _open(path) as file:
        return Contents(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


def check_size(path: Path, expected: int) -> None:
    """Refuse a file that is not regular or not of this size, without opening it."""
    _require_regular(path, found := os.lstat(path))
    if found.st_size != expected:
        raise _differs(path, f"{shown(expected)} bytes", f"{found.st_size} bytes")


def verify(path: Path, expected: Contents) -> None:
    """Refuse a file whose contents are others."""
    if (found := contents_of(path)) != expected:
        raise _differs(path, expected, found)


def read_verified(path: Path, expected: Contents) -> bytes:
    """Return what a file holds; CheckpointError where that is not what was expected, and no more is read."""
    with _open(path) as file:
        data = file.read(expected.size)
    if (found := Contents.of(data)) != expected:
        raise _differs(path, expected, found)
    return data


def read_at_most(path: Path, limit: int) -> bytes:
    """Return what a file holds; CheckpointError where that is more than ``limit`` bytes."""
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise CheckpointError(f"{path} must have at most {limit} bytes, got {size}")
        return file.read(size)


def parse_json(path: Path, data: bytes) -> Any:
    """Return the JSON value in ``data``, which came from ``path``; CheckpointError where it is none.

    More is refused than JSON asks: numbers that are not finite and keys that come twice.
    """
    try:
        return json.loads(
            data, parse_constant=_refuse_constant, parse_float=_finite_float, object_pairs_hook=_distinct
        )
    except (ValueError, RecursionError) as error:  # ValueError: also undecodable text and integers without end
        raise CheckpointError(f"{path} is damaged: {error}") from error


def shown(value: object) -> str:
    """Return some of a value from a file for a message: its whole form can be too long, or too deep, to be made."""
    return _SHORT.repr(value)


def _open(path: Path) -> BufferedReader:
    # Looked at first, because to open a device or a pipe is to act on it, or to wait for it.
    _require_regular(path, os.lstat(path))
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _require_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else f"one of mode {stat.filemode(found.st_mode)}"
        raise CheckpointError(f"{path} must be a regular file, got {kind}: put the file itself there")


def _differs(path: Path, expected: object, found: object) -> CheckpointError:
    return CheckpointError(f"{path} is not as {path.parent / MANIFEST} says: expected {expected}, got {found}")


def _refuse_constant(text: str) -> float:
    raise ValueError(f"numbers must be finite, got {text}")


def _finite_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_constant(text)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    distinct = dict(pairs)
    if len(distinct) < len(pairs):
        raise ValueError(f"the keys of an object must differ, got {len(pairs) - len(distinct)} more than once")
    return distinct
