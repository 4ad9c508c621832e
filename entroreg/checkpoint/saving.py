"""Writing a checkpoint into a hidden folder beside it, which then takes its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from entroreg.atomic import write_json
from entroreg.checkpoint.blocks import write_blocks
from entroreg.checkpoint.contents import Contents, contents_of
from entroreg.checkpoint.described import check_tables, describe
from entroreg.checkpoint.errors import CheckpointError
from entroreg.checkpoint.manifest import METADATA_LIMIT, read_manifest, write_manifest
from entroreg.checkpoint.names import METADATA, TENSORS, block_name, hidden, older
from entroreg.checkpoint.rotation import refuse_strangers, remove_hidden, remove_surplus, swap
from entroreg.checkpoint.table import Table

__all__ = ["save_checkpoint"]

# fmt: off
_DTYPES = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
})
# fmt: on


def save_checkpoint(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    *,
    tables: Mapping[str, Table] | None = None,
    keep: int = 1,
) -> None:
    """Save a checkpoint in one step: after a crash at any point, the old or the new one loads, bit for bit.

    Args:
        folder: where; its parents are made. An older checkpoint there becomes ``<folder>.previous``.
        tensors: dense tensors of any shape and device, real, integer or boolean; views and tied tensors are
            saved in full, so they come back untied. NaN and infinity are kept.
        metadata: what JSON can hold, with string keys and finite numbers; tuples come back as lists.
        tables: by name, letters, digits, ``_``, ``-`` and ``.``; only their blocks that changed are written. A
            table takes note of what was saved only when the save has succeeded.
        keep: how many older checkpoints stay, at least 1: ``<folder>.previous``, ``<folder>.previous.2`` and so on.
            Those beyond are removed once the new one is in place.

    Raises:
        TypeError: a tensor is no dense tensor of such a dtype, a table no table, or a name or key no string.
        ValueError: a number in the metadata is NaN or infinite, the metadata takes more than 64 MiB, a tensor is
            called ``__metadata__``, a table has a name that a file cannot have, or keep is below 1.
        FileExistsError: the folder is something else than a checkpoint; it is left alone.
        OSError: writing failed. Every older checkpoint is where it was and no temporary folder is left; only when
            one of the last steps (the fsync of the parent folder, removing what is surplus) fails is the new one
            already in place.

    Example:
        >>> import tempfile
        >>> from entroreg.checkpoint import load_checkpoint
        >>> with tempfile.TemporaryDirectory() as root:
        ...     save_checkpoint(f"{root}/last", {"weight": torch.ones(2)}, {"step": 7})
        ...     load_checkpoint(f"{root}/last")
        ({'weight': tensor([1., 1.])}, {'step': 7})
    """
    path = Path(os.path.realpath(folder))
    packed = _pack(tensors)
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, got {type(metadata).__name__}: pass a dict")
    checked = check_tables(tables)
    if not isinstance(keep, int) or keep < 1:
        raise ValueError(f"keep must be 1 or more, got {keep!r}: the checkpoint before is always kept")
    refuse_strangers(path, keep)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = hidden(path)
    fresh.mkdir()
    try:
        blocks = _write(fresh, packed, dict(metadata), checked, path)
        swap(fresh, path, keep)
        remove_surplus(path, keep)
    finally:
        remove_hidden(path)
    for name, table in checked.items():
        table.remember(blocks[name])


def _pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that share no memory, which is all that safetensors takes; copied only if need be."""
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must be a mapping, got {type(tensors).__name__}: pass a dict")
    packed: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        _check_tensor(name, tensor)
        # resolve_neg: the imaginary part of a conjugate is stored with the other sign, and bytes are what is saved.
        dense = tensor.detach().cpu().resolve_neg().contiguous()
        storage = dense.untyped_storage().data_ptr()
        packed[name] = dense.clone() if storage in seen else dense
        seen.add(storage)
    return packed


def _check_tensor(name: object, tensor: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"tensors must have string names, got {name!r}: use str(name)")
    if name == "__metadata__":
        raise ValueError("tensors must not have the name '__metadata__', which the file format reserves: rename it")
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensors[{name!r}] must be a Tensor, got {type(tensor).__name__}: put it in metadata")
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        what = f"{tensor.layout} on {tensor.device}"
        raise TypeError(
            f"tensors[{name!r}] must be dense and hold data, got {what}: use to_dense() or materialise it"
        )
    if tensor.dtype not in _DTYPES:
        raise TypeError(f"tensors[{name!r}] must be real, integer or boolean, got {tensor.dtype}: convert it first")


def _write(
    fresh: Path, tensors: dict[str, Tensor], metadata: dict[str, Any], tables: dict[str, Table], path: Path
) -> dict[str, list[Contents]]:
    """Write all files, the manifest last, and return what the blocks of each table hold."""
    _write_metadata(fresh / METADATA, metadata, tables)
    _write_tensors(fresh / TENSORS, tensors)
    shutil.copymode(fresh / METADATA, fresh / TENSORS)  # safetensors lets only the owner read
    before, listed = _replaced(path) if tables else (path, {})
    blocks = {name: write_blocks(fresh, name, table, before, listed) for name, table in tables.items()}
    files = {name: contents_of(fresh / name) for name in (TENSORS, METADATA)}
    for name, written in blocks.items():
        files |= {block_name(name, index): contents for index, contents in enumerate(written)}
    write_manifest(fresh, files)
    return blocks


def _write_metadata(path: Path, metadata: dict[str, Any], tables: dict[str, Table]) -> None:
    described = {name: describe(table) for name, table in tables.items()}
    write_json(path, {"metadata": metadata, "tables": described})
    if (size := path.stat().st_size) > METADATA_LIMIT:
        raise ValueError(
            f"metadata must take at most {METADATA_LIMIT} bytes as JSON, got {size}: put its numbers into tensors"
        )


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # how safetensors reports, say, a full disk
        raise OSError(f"could not write {path}: {error}") from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replaced(path: Path) -> tuple[Path, dict[str, Contents]]:
    """Return the checkpoint that is being replaced and what it lists, nothing for none and for a damaged one."""
    for before in (path, older(path, 1)):  # the second, if a crash fell between the two renames of a save
        if before.exists():
            try:
                return before, read_manifest(before).files
            except (CheckpointError, FileNotFoundError):
                break
    return path, {}
