"""The blocks of a table as files: written or linked, and read back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.checkpoint.contents import Contents, parse_json, read_verified, shown
from entroreg.checkpoint.described import Described
from entroreg.checkpoint.errors import CheckpointError
from entroreg.checkpoint.names import block_name
from entroreg.checkpoint.table import DTYPES, Table

__all__ = ["read_blocks", "write_blocks"]

_ROWS = "rows"  # the name of the one tensor of a block
_LARGEST_HEADER = 1 << 16  # a block's own takes some hundred bytes
# What says that a file system or the machine's settings allow no link here, where a copy may still be written.
_NO_LINKS = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def write_blocks(
    folder: Path, name: str, table: Table, before: Path, listed: Mapping[str, Contents]
) -> list[Contents]:
    """Put the blocks of a table into a new folder, on disk.

    Args:
        folder: the new one.
        name: of the table.
        table: it is not changed.
        before: the checkpoint that is being replaced.
        listed: what its manifest lists, nothing where that or one of the files is seen to be damaged.

    Returns:
        What the file of each block holds.
    """
    found: list[Contents] = []
    for index, known in enumerate(table.known()):
        file = block_name(name, index)
        there = listed.get(file)
        if known is not None and known == there and _link(before / file, folder / file):
            found.append(known)
            continue
        header, rows = _as_file(table.block(index))
        contents = _contents(header, rows)
        if contents != there or not _link(before / file, folder / file):
            _write(folder / file, header, rows)
        found.append(contents)
    return found


def read_blocks(
    folder: Path, name: str, table: Table, described: Described, listed: Mapping[str, Contents]
) -> None:
    """Read the blocks of a table, which fits, into its rows; CheckpointError where one is not as it was written."""
    table.mark_all()  # if this fails halfway, what the table remembers is of other rows
    found = [listed[block_name(name, index)] for index in range(described.blocks())]
    for index, contents in enumerate(found):
        start = index * described.block_rows
        target = table.rows[start : min(start + described.block_rows, described.rows)]
        path = folder / block_name(name, index)
        if contents.size > target.nbytes + _LARGEST_HEADER:
            raise CheckpointError(f"{path} must have {target.nbytes} bytes and a header, got {contents.size}")
        target[...] = _parse(path, read_verified(path, contents), target)
    table.filled = described.rows
    if described.block_rows == table.block_rows:
        table.remember(found)


def _link(source: Path, target: Path) -> bool:
    """Return whether that worked; OSError where the reason is not that there can be no link."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def _as_file(rows: np.ndarray) -> tuple[bytes, memoryview]:
    """Return what stands before rows in a safetensors file, and their bytes, which safetensors would copy twice."""
    header = json.dumps({_ROWS: _described(rows)}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header, rows.reshape(-1).view(np.uint8).data


def _described(rows: np.ndarray) -> dict[str, Any]:
    return {"dtype": DTYPES[rows.dtype.name], "shape": [*rows.shape], "data_offsets": [0, rows.nbytes]}


def _contents(header: bytes, rows: memoryview) -> Contents:
    found = hashlib.sha256(header)
    found.update(rows)
    return Contents(len(header) + rows.nbytes, found.hexdigest())


def _write(path: Path, header: bytes, rows: memoryview) -> None:
    with path.open("xb") as file:
        file.write(header)
        file.write(rows)
        file.flush()
        os.fsync(file.fileno())


def _parse(path: Path, data: bytes, like: np.ndarray) -> np.ndarray:
    """Return the rows in a safetensors file, without a copy, for safetensors would make one."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = parse_json(path, data[8:start])
    rows = _described(like)
    if header != {_ROWS: rows} or len(data) != start + like.nbytes:
        found = f"{shown(header)} in {len(data)} bytes"
        raise CheckpointError(f"{path} is damaged: expected a header of {rows} alone, got {found}")
    return np.frombuffer(data, like.dtype, count=like.size, offset=start).reshape(like.shape)
