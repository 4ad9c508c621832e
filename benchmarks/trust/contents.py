"""What a run's folder holds: whether each file can be read, and a digest of what came of the run, without times."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from entroreg.benchmarks.trust.kills import Inspection
from entroreg.checkpoint import CheckpointError, load_checkpoint
from entroreg.checkpoint.contents import verify
from entroreg.checkpoint.manifest import read_manifest
from entroreg.checkpoint.names import METADATA, TENSORS
from entroreg.state_tree import split_state

__all__ = ["digest_of_json", "digest_of_tensors", "digest_of_weights", "inspect", "outcome", "saves"]

_CHECKPOINTS, _PREVIOUS, _SAVING = "checkpoints", ".previous", ".saving"
_EVENTS = "tb"  # TensorBoard's, whose readers expect that the last record is cut off
# Monitor's: seconds since its start, in each episode and for all, and when that was.
_CLOCKS = frozenset({"t", "t_start", "episode_times"})
_PNG_END = b"IEND\xaeB`\x82"


def saves(folder: Path) -> frozenset[str]:
    """Return the hidden folders of saves that have not ended."""
    names = _names(folder / _CHECKPOINTS)
    return frozenset(name for name in names if name.startswith(".") and name.endswith(_SAVING))


def inspect(folder: Path) -> Inspection:
    """Return what cannot be read of a run that was killed; what is hidden was not finished, and nobody reads it."""
    corrupt = [str(path.relative_to(folder)) for path in _files(folder) if not _READABLE[path.suffix](path)]
    corrupt += [path.name for path in _checkpoints(folder) if not _is_whole(path)]
    return Inspection(tuple(corrupt), torn=any(_is_torn(path) for path in folder.glob("*.jsonl")))


def outcome(folder: Path) -> dict[str, str]:
    """Return a digest of each part of a run that has ended: results, checkpoints, the names of its files."""
    found = {path.name: _DIGEST[path.suffix](path) for path in _files(folder) if path.suffix in _DIGEST}
    for name in ("config.json", "meta.json"):  # what was asked for, when and where
        del found[name]
    for path in _checkpoints(folder):
        if _PREVIOUS not in path.name:
            found[f"{_CHECKPOINTS}/{path.name}"] = _digest_of_checkpoint(path)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return {**found, "names": digest_of_json(sorted(name for name in names if not name.startswith(f"{_EVENTS}/")))}


def digest_of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return a digest of names, types, shapes and all bits."""
    import torch

    found = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def digest_of_json(value: Any) -> str:
    """Return a digest of JSON data without what was timed."""
    return hashlib.sha256(json.dumps(_untimed(value), sort_keys=True).encode()).hexdigest()


def _untimed(value: Any) -> Any:
    """Return JSON data without clocks, which are keys of a dict, or the first of a pair of name and value."""
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if not _is_clock(key)}
    if isinstance(value, list):
        return [_untimed(item) for item in value if not (isinstance(item, list) and item and _is_clock(item[0]))]
    return value


def _is_clock(name: object) -> bool:
    return isinstance(name, str) and (name in _CLOCKS or name.startswith("time/") or "second" in name)


def _texts(value: Any) -> set[str]:
    """Return all strings in JSON data."""
    if isinstance(value, dict | list):
        return set().union(*map(_texts, value.values() if isinstance(value, dict) else value))
    return {value} if isinstance(value, str) else set()


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def _files(folder: Path) -> list[Path]:
    """Return the files beside the checkpoints, without hidden ones."""
    paths = [folder / name for name in sorted(_names(folder)) if not name.startswith(".")]
    return [path for path in paths if path.is_file()]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints, older ones too, without hidden ones."""
    return [folder / _CHECKPOINTS / name for name in sorted(_names(folder / _CHECKPOINTS)) if name[0] != "."]


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint loads and all its files, those of tables too, are as they were written."""
    try:
        load_checkpoint(checkpoint)
        for name, expected in read_manifest(checkpoint).files.items():
            verify(checkpoint / name, expected)
    except CheckpointError:
        return False
    return True


def _digest_of_checkpoint(checkpoint: Path) -> str:
    tensors, metadata = load_checkpoint(checkpoint)
    timed = _texts(metadata) - _texts(_untimed(metadata))  # names of tensors among them
    kept = [(name, tensor) for name, tensor in tensors.items() if name not in timed]
    files = read_manifest(checkpoint).files.items()
    blocks = {name: contents.sha256 for name, contents in files if name not in (TENSORS, METADATA)}  # of tables
    return digest_of_json([digest_of_tensors(kept), metadata, blocks])


def _is_torn(path: Path) -> bool:
    text = path.read_text()
    return text != "" and not text.endswith("\n")


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _whole_rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _parses(read: Callable[[Path], Any]) -> Callable[[Path], bool]:
    def parses(path: Path) -> bool:
        try:
            read(path)
        except ValueError:
            return False
        return True

    return parses


def _zip_is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def _png_is_whole(path: Path) -> bool:
    return path.read_bytes().endswith(_PNG_END)


def _csv_is_whole(path: Path) -> bool:
    text = path.read_text()
    return text.endswith("\n") and len({len(row) for row in csv.reader(text.splitlines())}) == 1


def _digest_of_bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of_weights(path: Path) -> str:
    """Return a digest of the tensors in an agent's zip; the rest are settings, versions and the time of start."""
    import torch

    with zipfile.ZipFile(path) as archive:
        members = {name: io.BytesIO(archive.read(name)) for name in archive.namelist() if name.endswith(".pth")}
    tensors, tree = split_state({name: torch.load(file, weights_only=True) for name, file in members.items()})
    return digest_of_tensors(tensors.items()) + digest_of_json(tree)


# A file of any other kind is a KeyError: what is not looked at cannot be called whole.
_READABLE: dict[str, Callable[[Path], bool]] = {
    ".json": _parses(_json),
    ".jsonl": _parses(_whole_rows),
    ".zip": _zip_is_whole,
    ".png": _png_is_whole,
    ".csv": _csv_is_whole,
}
_DIGEST: dict[str, Callable[[Path], str]] = {
    ".json": lambda path: digest_of_json(_json(path)),
    ".jsonl": lambda path: digest_of_json(_whole_rows(path)),
    ".zip": digest_of_weights,
    ".csv": _digest_of_bytes,
}
