"""The checkpoint: a folder of safetensors and JSON, replaced in one step and verified when it is read.

A checkpoint ``<name>/`` holds ``tensors.safetensors``, ``metadata.json`` and, written last, ``manifest.json`` with
the size and SHA-256 of the other two. The one it replaced is kept as ``<name>.previous/``. One process at a
time may write a checkpoint; any number may read it meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from entroreg.atomic import fsync_folder, write_json

__all__ = ["CheckpointError", "load_checkpoint", "save_checkpoint"]

_SCHEMA_VERSION = 1
_TRIES = 100  # of a reader whose checkpoint is replaced meanwhile
_TENSORS, _METADATA, _MANIFEST = "tensors.safetensors", "metadata.json", "manifest.json"
# fmt: off
_DTYPES = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
})
# fmt: on


class CheckpointError(RuntimeError):
    """A checkpoint is incomplete, damaged or of another version."""


def save_checkpoint(
    folder: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Save a checkpoint in one step: after a crash at any point, the old or the new one loads, bit for bit.

    Args:
        folder: where; its parents are made. An older checkpoint there becomes ``<folder>.previous``.
        tensors: dense tensors of any shape and device, real, integer or boolean; views and tied tensors are
            saved in full, so they come back untied. NaN and infinity are kept.
        metadata: what JSON can hold, with string keys and finite numbers; tuples come back as lists.

    Raises:
        TypeError: a tensor is no dense tensor of such a dtype, or a name or key is no string.
        ValueError: a number in the metadata is NaN or infinite, or a tensor is called ``__metadata__``.
        FileExistsError: the folder is something else than a checkpoint; it is left alone.
        OSError: writing failed. The old checkpoint still loads and no temporary folder is left.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     save_checkpoint(f"{root}/last", {"weight": torch.ones(2)}, {"step": 7})
        ...     load_checkpoint(f"{root}/last")
        ({'weight': tensor([1., 1.])}, {'step': 7})
    """
    path = Path(os.path.realpath(folder))
    packed = _pack(tensors)
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, got {type(metadata).__name__}: pass a dict")
    for existing in (path, _previous(path)):
        if os.path.lexists(existing) and not (existing / _MANIFEST).is_file():
            raise FileExistsError(
                f"{existing} is no checkpoint (it has no {_MANIFEST}): choose another folder, or remove this one"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _hidden(path)
    fresh.mkdir()
    try:
        _write(fresh, packed, dict(metadata))
        _swap(fresh, path)
    finally:
        _remove_hidden(path)


def load_checkpoint(
    folder: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load what `save_checkpoint` saved, after checking version, sizes and hashes.

    When a crash fell between the two renames of a save, only ``<folder>.previous`` is there, and is loaded. A
    damaged checkpoint is never passed over for the previous one: the error says where that is.

    Args:
        folder: as given to `save_checkpoint`.
        device: where the tensors go.

    Returns:
        The tensors, each with memory of its own, and the metadata.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: it is damaged or of another version; the message names the file.
    """
    path = Path(os.path.realpath(folder))
    for _ in range(_TRIES):
        source, before = _find(path)
        try:
            loaded = _read(source, device)
        except (CheckpointError, SafetensorError, FileNotFoundError, NotADirectoryError) as error:
            if _identity(source) == before:
                raise CheckpointError(f"{error}: {_advice(path, source)}") from error
        else:
            if _identity(source) == before:
                return loaded
    raise CheckpointError(
        f"{path} must stay while it is read, got {_TRIES} saves meanwhile: save less often, or load it afterwards"
    )


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


def _write(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    try:
        save_file(tensors, folder / _TENSORS)
    except SafetensorError as error:  # how safetensors reports, say, a full disk
        raise OSError(f"could not write {folder / _TENSORS}: {error}") from error
    with (folder / _TENSORS).open("rb") as file:
        os.fsync(file.fileno())
    write_json(folder / _METADATA, metadata)
    shutil.copymode(folder / _METADATA, folder / _TENSORS)  # safetensors lets only the owner read
    files = {name: _describe(folder / name) for name in (_TENSORS, _METADATA)}
    write_json(folder / _MANIFEST, {"schema_version": _SCHEMA_VERSION, "files": files})


def _swap(fresh: Path, path: Path) -> None:
    if path.exists():
        if _previous(path).exists():
            os.rename(_previous(path), _hidden(path))  # a rename, so that no half-removed one is ever seen
        os.rename(path, _previous(path))
    os.rename(fresh, path)
    fsync_folder(path.parent)


def _read(folder: Path, device: str | torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    files = _read_manifest(folder / _MANIFEST)
    for name in (_TENSORS, _METADATA):
        found = _describe(folder / name)
        if found != files.get(name):
            raise CheckpointError(
                f"{folder / name} is not as {folder / _MANIFEST} says: expected {files.get(name)}, got {found}"
            )
    # load_file maps the file, and later saves remove the file: hence a copy, even on the same device.
    try:
        mapped = load_file(folder / _TENSORS)
    except RuntimeError as error:  # how torch reports a file that went away
        raise CheckpointError(f"{folder / _TENSORS} cannot be read: {error}") from error
    tensors = {name: tensor.to(device, copy=True) for name, tensor in mapped.items()}
    return tensors, json.loads((folder / _METADATA).read_bytes())


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != _SCHEMA_VERSION:
        raise CheckpointError(
            f"{path} must have schema version {_SCHEMA_VERSION}, got {version}: use the entroreg that wrote it"
        )
    if set(manifest) != {"schema_version", "files"} or not isinstance(manifest["files"], dict):
        raise CheckpointError(f"{path} is damaged: expected 'schema_version' and 'files', got {sorted(manifest)}")
    return dict(manifest["files"])


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _advice(path: Path, source: Path) -> str:
    if source == path and _previous(path).exists():
        return f"the checkpoint before it is at {_previous(path)}; load that one, or restore this one from a backup"
    return "there is no other checkpoint beside it; restore it from a backup, or start again without one"


def _find(path: Path) -> tuple[Path, tuple[int, int]]:
    # Three times, because saves in another process may move each name away between the two looks.
    for source in (path, _previous(path)) * 3:
        if identity := _identity(source):
            return source, identity
    raise FileNotFoundError(f"no checkpoint at {path}: check the path, or start without one")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.saving")


def _remove_hidden(path: Path) -> None:
    """Remove what this save, or one that was killed, left beside the checkpoint."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.saving")
    for sibling in path.parent.iterdir():
        if pattern.fullmatch(sibling.name):
            shutil.rmtree(sibling)
