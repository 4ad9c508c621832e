"""Tiles and their values to a grid of cells: x to the right, y down, as the slide lies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.vision.mil.heatmaps.arrays import Numbers, as_coords, as_values


class Raster(NamedTuple):
    """A grid of square cells over a part of a slide.

    Attributes:
        values: (rows, columns) float64, NaN where no tile lies.
        origin: x and y of the top left corner of ``values[0, 0]``, in pixels of level 0.
        scale: side of a cell, in pixels of level 0.
    """

    values: NDArray[np.float64]
    origin: tuple[int, int]
    scale: int

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """Return left, right, bottom and top in pixels of level 0, as matplotlib's ``imshow`` takes them."""
        rows, columns = self.values.shape
        left, top = self.origin
        return left, left + columns * self.scale, top + rows * self.scale, top


def attention_raster(coords: Numbers, tile_size: int | None, values: Numbers, *, longest: int = 2000) -> Raster:
    """Return one row of values as a raster: each tile fills its square, tiles that overlap are averaged.

    A cell is the largest square that divides all tiles and steps, so that nothing is moved or blurred; where that
    gives more than ``longest`` cells a side, a multiple of it, and a cell then has the mean of its tiles.

    Args:
        coords: (N, 2) int64, x and y of each tile's top left corner, in pixels of level 0.
        tile_size: side of a tile in pixels of level 0; None infers it with `infer_tile_size`.
        values: (N,) finite.
        longest: cells of the longer side, at most.

    Raises:
        TypeError: coords that are not integers.
        ValueError: lengths that differ, a value that is not finite, or a tile size below 1.

    Example:
        >>> attention_raster(np.array([[512, 0], [768, 256]]), 256, np.array([1.0, 2.0]))
        Raster(values=array([[ 1., nan],
               [nan,  2.]]), origin=(512, 0), scale=256)
    """
    corners = as_coords(coords)
    row = as_values("values", values, len(corners))
    if len(row) != 1:
        raise ValueError(f"values must be one row, got {len(row)}: make a raster of each")
    side = infer_tile_size(corners) if tile_size is None else tile_size
    side = int(_checks.require_number("tile_size", side, low=1))
    origin = corners.min(axis=0)
    offsets = corners - origin
    limits = offsets.max(axis=0) + side
    finest = int(np.gcd(np.gcd.reduce(offsets, axis=None), side))
    scale = finest * -(-int(limits.max()) // (finest * longest))
    begins, ends = _covered(offsets, side, scale)
    columns, rows = (int(end) for end in ends.max(axis=0))
    counts = _painted(begins, ends, np.ones(len(corners)), (rows, columns))
    sums = _painted(begins, ends, row[0], (rows, columns))
    covered = counts > 0.5  # the counts are whole
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=covered)
    return Raster(means, (int(origin[0]), int(origin[1])), scale)


def infer_tile_size(coords: Numbers) -> int:
    """Return the smallest step between tiles of one row or column: the tile size, if tiles do not overlap.

    Only steps within a row or column count: slides tiled region by region have regions shifted by a few pixels.

    Args:
        coords: (N, 2) int64, top left corners.

    Raises:
        ValueError: no two tiles in one row or column.

    Example:
        >>> infer_tile_size(np.array([[0, 0], [512, 0], [7, 256], [7, 768]]))
        512
    """
    corners = as_coords(coords)
    steps = np.concatenate([_steps(corners[:, 0], corners[:, 1]), _steps(corners[:, 1], corners[:, 0])])
    if not len(steps):
        raise ValueError("tile_size must be given: no two tiles lie in one row or column to infer it from")
    return int(steps.min())


def _steps(along: NDArray[np.int64], line: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.lexsort((along, line))
    steps, same_line = np.diff(along[order]), np.diff(line[order]) == 0
    found: NDArray[np.int64] = steps[same_line & (steps > 0)]
    return found


def _covered(offsets: NDArray[np.int64], side: int, scale: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first cell of each tile and the one after its last, along x and y, each (N, 2)."""
    # A cell belongs to a tile if its centre does; the division rounds up in whole numbers.
    begins = -((scale - 2 * offsets) // (2 * scale))
    ends = -((scale - 2 * (offsets + side)) // (2 * scale))
    # A tile smaller than a cell may contain no centre; it still has to show.
    small = ends <= begins
    begins = np.where(small, (2 * offsets + side) // (2 * scale), begins)
    return begins, np.where(small, begins + 1, ends)


def _painted(
    begins: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the sum over tiles of their rectangles filled with their values, in O(tiles + cells)."""
    rows, columns = shape[0] + 1, shape[1] + 1
    corners = np.zeros(rows * columns)
    for y, x, signed in (
        (begins[:, 1], begins[:, 0], values),
        (begins[:, 1], ends[:, 0], -values),
        (ends[:, 1], begins[:, 0], -values),
        (ends[:, 1], ends[:, 0], values),
    ):
        corners += np.bincount(y * columns + x, weights=signed, minlength=rows * columns)
    # Summed over both directions, what starts at a rectangle's corners fills it.
    filled: NDArray[np.float64] = corners.reshape(rows, columns).cumsum(axis=0).cumsum(axis=1)
    return filled[:-1, :-1]
