"""Reading a checkpoint: verified before it is parsed, and from the start again when it was replaced meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from entroreg.checkpoint.blocks import read_blocks
from entroreg.checkpoint.contents import parse_json, read_verified, shown, verify
from entroreg.checkpoint.described import Described, check_fit, check_tables, read_descriptions
from entroreg.checkpoint.errors import CheckpointError
from entroreg.checkpoint.manifest import METADATA_LIMIT, Manifest, read_manifest
from entroreg.checkpoint.migration import to_present_form
from entroreg.checkpoint.names import METADATA, TENSORS, older, older_ones
from entroreg.checkpoint.table import Table

__all__ = ["load_checkpoint"]

_TRIES = 100  # of a reader whose checkpoint is replaced meanwhile


def load_checkpoint(
    folder: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    tables: Mapping[str, Table] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load what `save_checkpoint` saved, after checking version, sizes and hashes.

    When a crash fell between the two renames of a save, only ``<folder>.previous`` is there, and is loaded. A
    damaged checkpoint is never passed over for the previous one: the error says where that is.

    A checkpoint from elsewhere can hold any values, but loading it runs no code of its own, and takes time and
    memory in proportion to the size of its files. Links and pipes in place of its files are refused.

    Args:
        folder: as given to `save_checkpoint`.
        device: where the tensors go.
        tables: by name, where the rows of the saved tables go. Those not asked for are not read: only that their
            files are there, in the right size, is checked.

    Returns:
        The tensors, each with memory of its own, and the metadata.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: it is damaged or of another version; the message names the file. If blocks of a table were
            already being read, the rows of the table are undefined.
        ValueError: the checkpoint lacks a table that was asked for, or has it in another dtype or shape or with
            more rows than there is room for; no table was changed. Or a table's array cannot be written to.
        TypeError: tables is no mapping of names to tables.
    """
    path = Path(os.path.realpath(folder))
    checked = check_tables(tables)
    for name, table in checked.items():
        if not table.rows.flags.writeable:
            raise ValueError(
                f"tables[{name!r}] must have rows that can be written to, got a read-only array: copy it"
            )
    for _ in range(_TRIES):
        source, before = _find(path)
        try:
            loaded = _read(source, device, checked)
        except (CheckpointError, FileNotFoundError, NotADirectoryError) as error:
            if _identity(source) == before:
                raise CheckpointError(f"{error}: {_advice(path, source)}") from error
        else:
            if _identity(source) == before:
                return loaded
    raise CheckpointError(
        f"{path} must stay while it is read, got {_TRIES} saves meanwhile: save less often, or load it afterwards"
    )


def _read(
    folder: Path, device: str | torch.device, tables: dict[str, Table]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    manifest = read_manifest(folder)
    metadata, described = _read_metadata(folder, manifest)
    check_fit(folder, tables, described)
    verify(folder / TENSORS, manifest.files[TENSORS])
    # load_file maps the file, and later saves remove the file: hence a copy, even on the same device.
    try:
        mapped = load_file(folder / TENSORS)
    except (SafetensorError, RuntimeError, TypeError) as error:
        # The last two are torch's: a file that went away; and, with a stack trace, shapes beyond its integers.
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(f"{folder / TENSORS} cannot be read: {reason}") from error
    tensors = {name: tensor.to(device, copy=True) for name, tensor in mapped.items()}
    for name, table in tables.items():
        read_blocks(folder, name, table, described[name], manifest.files)
    return tensors, metadata


def _read_metadata(folder: Path, manifest: Manifest) -> tuple[dict[str, Any], dict[str, Described]]:
    path = folder / METADATA
    if (size := manifest.files[METADATA].size) > METADATA_LIMIT:
        raise CheckpointError(f"{path} must have at most {METADATA_LIMIT} bytes, got {size}")
    saved = parse_json(path, read_verified(path, manifest.files[METADATA]))
    match to_present_form(manifest.version, saved):
        case {"metadata": dict(metadata), "tables": tables, **rest} if not rest:
            return metadata, read_descriptions(path, tables, set(manifest.files) - {TENSORS, METADATA})
    raise CheckpointError(f"{path} is damaged: expected metadata and tables, got {shown(saved)}")


def _advice(path: Path, source: Path) -> str:
    others = [place for place in older_ones(path).values() if place != source]
    if others:
        return f"the checkpoint before it is at {others[0]}; load that one, or restore this one from a backup"
    return "there is no other checkpoint beside it; restore it from a backup, or start again without one"


def _find(path: Path) -> tuple[Path, tuple[int, int]]:
    # Three times, because saves in another process may move each name away between the two looks.
    for source in (path, older(path, 1)) * 3:
        if identity := _identity(source):
            return source, identity
    if path.is_symlink():
        raise CheckpointError(f"{path} must be a folder, got a link that leads to itself: remove it")
    raise FileNotFoundError(f"no checkpoint at {path}: check the path, or start without one")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # the last: a link that leads to itself
            return None
        raise
    return found.st_dev, found.st_ino
