"""The manifest: the version of a checkpoint's form, and size and hash of each of its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entroreg.atomic import write_json
from entroreg.checkpoint.contents import Contents, check_size, parse_json, read_at_most, shown
from entroreg.checkpoint.errors import CheckpointError
from entroreg.checkpoint.migration import SCHEMA_VERSION
from entroreg.checkpoint.names import MANIFEST, METADATA, TENSORS, is_plain

__all__ = ["METADATA_LIMIT", "Manifest", "read_manifest", "write_manifest"]

# JSON can take 30 times as much memory as text, so these bound what a file that means harm can ask for.
_MANIFEST_LIMIT = 16 << 20
METADATA_LIMIT = 64 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What a manifest says."""

    version: int
    """Of the form in which the checkpoint was written."""
    files: dict[str, Contents]
    """By name; each name is plain, and those of every checkpoint are among them."""


def write_manifest(folder: Path, files: Mapping[str, Contents]) -> None:
    """Write the manifest of a folder whose other files are already on disk; ValueError if it grows too large."""
    described = {name: {"bytes": contents.size, "sha256": contents.sha256} for name, contents in files.items()}
    write_json(folder / MANIFEST, {"schema_version": SCHEMA_VERSION, "files": described})
    if (size := (folder / MANIFEST).stat().st_size) > _MANIFEST_LIMIT:
        raise ValueError(
            f"the manifest must have at most {_MANIFEST_LIMIT} bytes, got {size} for {len(files)} files: give the "
            "tables larger blocks"
        )


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder, once all files are seen to be there in the right sizes.

    Raises:
        CheckpointError: the manifest is damaged or of a later version, or a file is not regular or of another size.
        FileNotFoundError: the manifest or a file is missing.
    """
    path = folder / MANIFEST
    data = parse_json(path, read_at_most(path, _MANIFEST_LIMIT))
    version = _check_version(path, data.get("schema_version") if isinstance(data, dict) else None)
    if set(data) != {"schema_version", "files"} or not isinstance(data["files"], dict):
        raise CheckpointError(
            f"{path} is damaged: expected 'schema_version' and 'files', got {shown(sorted(data))}"
        )
    files = {name: _contents(path, name, entry) for name, entry in data["files"].items()}
    if not {TENSORS, METADATA} <= set(files):
        listed = shown(sorted(files))
        raise CheckpointError(f"{path} is damaged: it must list {TENSORS} and {METADATA}, got {listed}")
    for name, contents in files.items():
        check_size(folder / name, contents.size)
    return Manifest(version, files)


def _check_version(path: Path, version: Any) -> int:
    if type(version) is int and 1 <= version <= SCHEMA_VERSION:
        return version
    is_later = type(version) is int and version > SCHEMA_VERSION
    advice = "upgrade entroreg, a later one wrote it" if is_later else "the file is damaged"
    raise CheckpointError(
        f"{path} must have a schema version of 1 to {SCHEMA_VERSION}, got {shown(version)}: {advice}"
    )


def _contents(path: Path, name: str, entry: Any) -> Contents:
    if not is_plain(name):
        raise CheckpointError(f"{path} is damaged: expected plain names of files, got {shown(name)}")
    match entry:
        case {"bytes": int(size), "sha256": str(digest)} if (
            len(entry) == 2 and type(size) is int and size >= 0 and _SHA256.fullmatch(digest)
        ):
            return Contents(size, digest)
    raise CheckpointError(f"{path} is damaged: expected the size and SHA-256 of {name}, got {shown(entry)}")
