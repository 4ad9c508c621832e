"""Checkpoints of older versions, read as if they had been written today."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["SCHEMA_VERSION", "to_present_form"]

SCHEMA_VERSION = 2


def to_present_form(version: int, data: Any) -> Any:
    """Return what ``metadata.json`` of a checkpoint of some version holds, in the present version's form.

    Args:
        version: 1 to ``SCHEMA_VERSION``.
        data: the JSON value of the file.
    """
    for step in range(version, SCHEMA_VERSION):
        data = _TO_THE_NEXT[step](data)
    return data


def _with_tables(metadata: Any) -> dict[str, Any]:
    """Version 1 had no tables, and the file was the caller's metadata alone."""
    return {"metadata": metadata, "tables": {}}


_TO_THE_NEXT: dict[int, Callable[[Any], Any]] = {1: _with_tables}
