"""Which tiles of a slide are embedded: a grid at one resolution, and on it the tiles with tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.slides.reading import Slide
from entroreg.vision.mil.slides.tissue import tissue_mask, tissue_share

_ENLARGED = 1.1  # more than this and a tile shows pixels that the slide does not have
_DUST = 0.1  # of a tile: smaller pieces of tissue are dropped


@dataclass(frozen=True)
class Tiles:
    """The tiles of a slide that are to be embedded; made by `find_tiles`."""

    corners: NDArray[np.int64]
    """(N, 2), x and y of each tile's top left corner in pixels of level 0, row by row."""
    shares: NDArray[np.float64]
    """(N,), the share of each tile that is tissue."""
    side: int
    """Of a tile, in pixels of level 0."""
    tile: int
    """Of a tile, in pixels that the network sees."""
    mpp: float
    """Micrometres a pixel of level 0."""
    candidates: int
    """Tiles of the whole grid."""

    def __len__(self) -> int:
        """Return N."""
        return len(self.corners)


def grid_corners(size: tuple[int, int], side: int) -> NDArray[np.int64]:
    """Return (N, 2), the top left corners x, y of all tiles that lie side by side within a slide, row by row.

    Args:
        size: width and height of the slide.
        side: of a tile; strips at the right and bottom that are narrower are left out.

    Example:
        >>> grid_corners((5, 4), 2).tolist()
        [[0, 0], [2, 0], [0, 2], [2, 2]]
    """
    across, down = (np.arange(length // side, dtype=np.int64) * side for length in size)
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)


def resolution(slide: Slide, given: float | None = None) -> float:
    """Return the micrometres a pixel of level 0.

    Args:
        slide: the slide.
        given: what goes before the file's own word, where the file does not say or is wrong.

    Raises:
        ValueError: what is given is not positive and finite.
        DataError: the file does not say, and nothing is given.
    """
    if given is not None:
        _require_positive("slide_mpp", given)
        return given
    if slide.mpp is None:
        raise DataError(
            f"{slide.path} does not say its resolution: give its micrometres a pixel, such as --slide-mpp 0.5 for "
            "an objective of 20x or 0.25 for 40x"
        )
    return slide.mpp


def side_at_level0(slide: Slide, slide_mpp: float, tile: int, mpp: float) -> int:
    """Return the side of a tile in pixels of level 0.

    Args:
        slide: the slide.
        slide_mpp: its micrometres a pixel of level 0, from `resolution`.
        tile: side of the tile as it is seen, in pixels.
        mpp: micrometres a pixel of the tile as it is seen; 0.5 is an objective of 20x.

    Raises:
        ValueError: the tile or its resolution is not positive and finite.
        DataError: the slide is coarser than that.
    """
    _require_positive("tile", tile)
    _require_positive("mpp", mpp)
    if slide_mpp > _ENLARGED * mpp:
        raise DataError(
            f"{slide.path} has {slide_mpp:g} micrometres a pixel, too coarse for tiles with {mpp:g}: "
            f"ask for --mpp {slide_mpp:g}"
        )
    return max(1, round(tile * mpp / slide_mpp))


def find_tiles(
    slide: Slide,
    thumbnail: NDArray[np.uint8],
    *,
    tile: int = 224,
    mpp: float = 0.5,
    slide_mpp: float | None = None,
    min_tissue: float = 0.25,
) -> Tiles:
    """Return the tiles of a slide with enough tissue, none over another.

    Args:
        slide: the slide.
        thumbnail: (h, w, 3), from its `thumbnail`.
        tile: side of a tile as it is seen, in pixels.
        mpp: micrometres a pixel of it; 0.5 is an objective of 20x.
        slide_mpp: micrometres a pixel of level 0, where the slide does not say or is wrong.
        min_tissue: least share of a tile that is tissue, in [0, 1]; 0 keeps the whole grid.

    Raises:
        ValueError: an argument is out of range.
        DataError: the slide does not say its resolution, is too coarse, smaller than a tile, or has no tissue.
    """
    if not 0.0 <= min_tissue <= 1.0:
        raise ValueError(f"min_tissue must be in [0, 1], got {min_tissue}")
    level0_mpp = resolution(slide, slide_mpp)
    side = side_at_level0(slide, level0_mpp, tile, mpp)
    corners = grid_corners(slide.size, side)
    if not len(corners):
        width, height = slide.size
        raise DataError(
            f"{slide.path} is {width} x {height} pixels, less than a tile of {side}: ask for smaller tiles"
        )
    pixels = side**2 * thumbnail.shape[0] * thumbnail.shape[1] / (slide.size[0] * slide.size[1])
    shares = tissue_share(tissue_mask(thumbnail, _DUST * pixels), corners, side, slide.size)
    kept = shares >= min_tissue
    if not kept.any():
        raise DataError(
            f"{slide.path} has no tile with tissue on {min_tissue:.0%} of it, the most is {shares.max():.1%}: "
            "is it a slide of stained tissue? else lower --min-tissue"
        )
    return Tiles(corners[kept], shares[kept], side, tile, level0_mpp, len(corners))


def _require_positive(name: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value}")
