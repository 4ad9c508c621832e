"""The names of a checkpoint's files, of the folders beside it, and which of those there are."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

__all__ = [
    "MANIFEST",
    "METADATA",
    "TENSORS",
    "block_name",
    "hidden",
    "is_plain",
    "left_hidden",
    "older",
    "older_ones",
]

TENSORS, METADATA, MANIFEST = "tensors.safetensors", "metadata.json", "manifest.json"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def is_plain(name: str) -> bool:
    """Return whether a name can only mean a file in one folder: no separator, no leading dot."""
    return _PLAIN.fullmatch(name) is not None


def block_name(table: str, index: int) -> str:
    """Return the name of a table's block."""
    return f"{table}-{index:05d}.safetensors"


def older(path: Path, number: int) -> Path:
    """Return where the checkpoint that was replaced ``number`` saves ago is."""
    return path.with_name(f"{path.name}.previous" if number == 1 else f"{path.name}.previous.{number}")


def older_ones(path: Path) -> dict[int, Path]:
    """Return what stands in the places of older checkpoints, by their number, from the newest."""
    pattern = re.compile(rf"{re.escape(path.name)}\.previous(?:\.([2-9]|[1-9][0-9]{{1,8}}))?")
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    found = ((pattern.fullmatch(sibling.name), sibling) for sibling in siblings)
    return dict(sorted((int(match[1] or 1), sibling) for match, sibling in found if match))


def hidden(path: Path) -> Path:
    """Return a new name, for what is on its way to being a checkpoint or to being removed."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.saving")


def left_hidden(path: Path) -> list[Path]:
    """Return what stands at such names, of this save and of any that were killed."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.saving")
    return [sibling for sibling in path.parent.iterdir() if pattern.fullmatch(sibling.name)]
