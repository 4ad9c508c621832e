"""The argument checks of the heat maps, which take tensors and arrays alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Numbers: TypeAlias = "NDArray[Any] | Tensor"


def as_coords(coords: Numbers) -> NDArray[np.int64]:
    """Return (N, 2) int64; refuse other shapes, no tile at all, and fractions of a pixel."""
    found = _as_array(coords)
    if found.ndim != 2 or found.shape[1] != 2 or not len(found):
        raise ValueError(f"coords must have shape (N, 2) with N from 1, got {found.shape}")
    if not np.issubdtype(found.dtype, np.integer):
        raise TypeError(f"coords must be integers, pixels of level 0, got {found.dtype}: round them first")
    return found.astype(np.int64)


def as_values(name: str, values: Numbers, tiles: int) -> NDArray[np.float64]:
    """Return (K, N) float64 of (K, N), or of (N,) as one row; refuse another N, NaN and infinities."""
    found = np.atleast_2d(_as_array(values).astype(np.float64))
    if found.ndim != 2 or found.shape[1] != tiles or not len(found):
        raise ValueError(
            f"{name} must have shape (K, N) with a column for each of {tiles} tiles, got {found.shape}"
        )
    if not np.isfinite(found).all():
        row, tile = (int(index) for index in np.argwhere(~np.isfinite(found))[0])
        raise ValueError(
            f"{name} must be finite, got {found[row, tile]} at row {row}, tile {tile}: "
            "look for NaN among the features or the model's weights"
        )
    return found


def check_names(names: Sequence[str], rows: int) -> None:
    """Refuse names that are not one for each row, each another."""
    if len(names) != rows or len(set(names)) != rows:
        raise ValueError(f"names must be {rows} different ones, one for each row, got {list(names)}")


def _as_array(values: Numbers) -> NDArray[Any]:
    if isinstance(values, Tensor):
        plain = values.detach().cpu()  # numpy has no bfloat16
        return np.asarray(plain.double() if plain.is_floating_point() else plain)
    return np.asarray(values)
