"""Attention over a slide as a PNG: a panel for each class, head or branch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.mil.heatmaps.arrays import Numbers, as_coords, as_values, check_names
from entroreg.vision.mil.heatmaps.raster import attention_raster
from entroreg.vision.mil.heatmaps.saving import save_png
from entroreg.vision.mil.heatmaps.values import over_uniform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_INCHES = 5.0  # of a panel's longer side
_DPI = 200
_CELLS = 700  # of a raster's longer side: below a panel's pixels, so that no tile is skipped in drawing
_ALPHA = 0.5  # of the attention over a thumbnail: the tissue stays visible
_COLOURS = "coolwarm"  # light at both ends, unlike most diverging ones: dark tissue stays visible there too


def plot_heatmaps(
    coords: Numbers,
    tile_size: int | None,
    attention_logits: Numbers,
    names: Sequence[str],
    picture: Path,
    *,
    thumbnail: NDArray[np.uint8] | None = None,
    slide_size: tuple[int, int] | None = None,
    title: str = "",
) -> None:
    """Draw each row of a slide's attention as a panel of one PNG, all on one colour scale.

    The colour is `over_uniform`: attention as a multiple of uniform attention, on a log2 scale, blue below and red
    above it. The picture lies as the slide does: x to the right, y down. With a thumbnail the first panel is the
    slide itself, and the others have it in grey below the attention.

    Args:
        coords: (N, 2) int64, x and y of each tile's top left corner, in pixels of level 0.
        tile_size: side of a tile in pixels of level 0; None infers it from the coordinates.
        attention_logits: (K, N), before the softmax.
        names: of the K rows.
        picture: of the PNG; its folder must exist.
        thumbnail: (h, w, 3) uint8 of the whole slide, RGB; None leaves it out.
        slide_size: width and height in pixels of level 0; None, only without a thumbnail, for the tiles' own box.
        title: above all panels.

    Raises:
        TypeError: coords that are not integers.
        ValueError: shapes that do not fit, NaN, a thumbnail without a slide size, tiles outside the slide.
        OSError: the picture could not be written.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    corners = as_coords(coords)
    values = over_uniform(as_values("attention_logits", attention_logits, len(corners)))
    check_names(names, len(values))
    _check_slide(corners, thumbnail, slide_size)
    rasters = [attention_raster(corners, tile_size, row, longest=_CELLS) for row in values]
    left, right, bottom, top = (0, slide_size[0], slide_size[1], 0) if slide_size else rasters[0].extent
    box = (left, right, bottom, top)
    figure = Figure(layout="compressed")
    panels = _panels(figure, len(values) + (thumbnail is not None), box)
    limit = max(1.0, float(values.max()))
    alpha = 1.0
    if thumbnail is not None:
        alpha = _ALPHA
        panels[0].imshow(thumbnail, extent=box)
        _frame(panels.pop(0), "slide", box)
    drawn: Any = None
    for axes, name, raster in zip(panels, names, rasters, strict=True):
        if thumbnail is not None:
            # in grey, or the pink of the stain would pass for attention
            axes.imshow(thumbnail.mean(axis=2), extent=box, cmap="gray", vmin=0, vmax=255)
        drawn = axes.imshow(
            raster.values, extent=raster.extent, interpolation="nearest",
            cmap=_COLOURS, vmin=-limit, vmax=limit, alpha=alpha,
        )  # fmt: skip
        _frame(axes, name, box)
    bar = figure.colorbar(drawn, ax=figure.axes, extend="min" if values.min() < -limit else "neither")
    bar.set_label("share of uniform attention, log2(N p)\n0 = uniform, +1 = twice, -1 = half", fontsize="small")
    figure.suptitle(title)
    save_png(figure, picture, dpi=_DPI)


def _panels(figure: Figure, count: int, box: tuple[int, int, int, int]) -> list[Axes]:
    """Return ``count`` panels for a part of a slide, line by line, and size the figure for them."""
    width, height = box[1] - box[0], box[2] - box[3]
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    inches = _INCHES / max(width, height)
    # 1.8 for the colour bar, 0.7 for a panel's labels, 0.5 for the title; a small slide still needs their room
    figure.set_size_inches(max(columns * width * inches + 1.8, 5.0), max(rows * (height * inches + 0.7) + 0.5, 3.0))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return panels[:count]


def _frame(axes: Axes, name: str, extent: tuple[int, int, int, int]) -> None:
    left, right, bottom, top = extent
    # bottom > top: y grows downwards, as in the slide
    axes.set(title=name, xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set(xlabel="x (level-0 pixels)", ylabel="y (level-0 pixels)")
    axes.set_facecolor("white")  # where no tile lies: uniform attention is light grey
    axes.tick_params(labelsize="x-small")
    axes.locator_params(nbins=5)


def _check_slide(
    corners: NDArray[np.int64], thumbnail: NDArray[np.uint8] | None, slide_size: tuple[int, int] | None
) -> None:
    if thumbnail is not None:
        if slide_size is None:
            raise ValueError("slide_size must be given with a thumbnail: its pixels have no place without it")
        if thumbnail.ndim != 3 or thumbnail.shape[2] != 3 or thumbnail.dtype != np.uint8:
            raise ValueError(f"thumbnail must be (h, w, 3) uint8, got {thumbnail.shape} {thumbnail.dtype}")
    if slide_size is None:
        return
    outside = (corners < 0).any(axis=1) | (corners >= np.array(slide_size)).any(axis=1)
    if outside.any():
        x, y = corners[outside][0].tolist()
        raise ValueError(
            f"coords must lie in the slide of {slide_size[0]} x {slide_size[1]} pixels, got ({x}, {y}): "
            "pass coordinates and slide_size both in pixels of level 0, of the same slide"
        )
