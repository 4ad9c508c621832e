"""Tables as ``metadata.json`` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from entroreg.checkpoint.contents import shown
from entroreg.checkpoint.errors import CheckpointError
from entroreg.checkpoint.names import block_name, is_plain
from entroreg.checkpoint.table import Table

__all__ = ["Described", "check_fit", "check_tables", "describe", "read_descriptions"]

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Described:
    """One table, as it was saved."""

    dtype: str
    row_shape: list[int]
    rows: int
    block_rows: int

    def blocks(self) -> int:
        """Return how many blocks it has."""
        return -(-self.rows // self.block_rows)


def check_tables(tables: Mapping[str, Table] | None) -> dict[str, Table]:
    """Return the caller's tables, none for None, once they are seen to be tables with names that files can have."""
    if tables is None:
        return {}
    if not isinstance(tables, Mapping):
        raise TypeError(f"tables must be a mapping, got {type(tables).__name__}: pass a dict")
    for name, table in tables.items():
        if not isinstance(name, str):
            raise TypeError(f"tables must have string names, got {name!r}: use str(name)")
        if not is_plain(name) or len(name) > _LONGEST_NAME:
            raise ValueError(
                f"tables must have names of up to {_LONGEST_NAME} letters, digits, '_', '-' and '.', and begin "
                f"with none of the last two, got {name!r}: rename it"
            )
        if not isinstance(table, Table):
            raise TypeError(f"tables[{name!r}] must be a Table, got {type(table).__name__}: use Table(rows)")
    return dict(tables)


def describe(table: Table) -> dict[str, Any]:
    """Return a table's description as JSON data."""
    shape = list(table.rows.shape[1:])
    return asdict(Described(table.rows.dtype.name, shape, table.filled, table.block_rows))


def read_descriptions(path: Path, data: Any, files: set[str]) -> dict[str, Described]:
    """Return the tables that are described, whose blocks must be all of ``files``; CheckpointError if not."""
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: expected a description of the tables, got {shown(data)}")
    described = {name: _described(path, name, entry) for name, entry in data.items()}
    # Counted before they are named, because a description can claim any number of them.
    count = sum(table.blocks() for table in described.values())
    if count == len(files):
        named = {block_name(name, index) for name, table in described.items() for index in range(table.blocks())}
    if count != len(files) or named != files:
        raise CheckpointError(
            f"{path} is not as the manifest says: expected tables whose blocks are the {len(files)} files that "
            f"are listed there beside tensors and metadata, got {shown(sorted(described))}"
        )
    return described


def check_fit(path: Path, tables: Mapping[str, Table], described: Mapping[str, Described]) -> None:
    """Raise a ValueError where what is described cannot be read into the caller's tables."""
    for name, table in tables.items():
        if name not in described:
            raise ValueError(
                f"{path} must have a table {name!r}, got {shown(sorted(described))}: leave it out of tables"
            )
        found = described[name]
        if (found.dtype, found.row_shape) != (table.rows.dtype.name, list(table.rows.shape[1:])):
            raise ValueError(
                f"table {name!r} of {path} must have rows of {table.rows.dtype} and shape {table.rows.shape[1:]}, "
                f"got {shown(found.dtype)} and {shown(tuple(found.row_shape))}: make the array as it was then"
            )
        if found.rows > len(table.rows):
            raise ValueError(
                f"table {name!r} of {path} must have at most {len(table.rows)} rows, the room there is, got "
                f"{shown(found.rows)}: make the array as large as it was then"
            )


def _described(path: Path, name: str, entry: Any) -> Described:
    match entry:
        case {"dtype": str(), "row_shape": [*shape], "rows": int(rows), "block_rows": int(block_rows), **more}:
            are_whole = all(type(number) is int for number in (*shape, rows, block_rows))
            if are_whole and rows >= 0 and block_rows >= 1 and not more:
                return Described(**entry)
    raise CheckpointError(f"{path} is damaged: expected the description of a table, got {shown({name: entry})}")
