"""The rows of a run, metrics.jsonl: appended as they come, and cut back to a checkpoint's when the run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entroreg.atomic import write_bytes
from entroreg.benchmarks.errors import MISSING, UserError

__all__ = ["METRICS", "RowFile"]

METRICS = "metrics.jsonl"


class RowFile:
    """A JSON line for each row; a context that closes the file.

    Args:
        path: of the file; its folder must exist.
        kept: rows of an earlier part of the run to go on after. What was written beyond them, by a run that was
            killed before its next checkpoint, is cut off: these rows come again.

    Attributes:
        rows: all of them.

    Raises:
        UserError: the file has fewer rows.
        OSError: it cannot be written; the rows that were there stay.
    """

    def __init__(self, path: Path, kept: int = 0) -> None:
        lines = path.read_bytes().splitlines(keepends=True) if kept and path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]  # a crash can tear the last one
        if len(whole) < kept:
            raise UserError(
                f"{path} must have the {kept} rows that the checkpoint counts, got {len(whole)}: restore it from a "
                "backup, or begin anew with --overwrite",
                MISSING,
            )
        write_bytes(path, b"".join(whole[:kept]))
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in whole[:kept]]
        self._file = path.open("a")

    def __enter__(self) -> RowFile:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self.rows.append(dict(row))
        self._file.write(json.dumps(self.rows[-1]) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def sync(self) -> None:
        """Wait until all rows are on disk: a checkpoint that counts them must not outlive them."""
        os.fsync(self._file.fileno())
