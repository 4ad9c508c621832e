"""Attention over the pictures of one bag, such as the digits of an MNIST bag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.mil.heatmaps.arrays import Numbers, as_values
from entroreg.vision.mil.heatmaps.saving import save_png

_COLUMNS = 10
_DIGIT = 0.9  # side of a digit in its cell of side 1, below which stands a bar
_BAR = 0.12


def plot_bag_attention(
    images: Numbers, attention: Numbers, marked: Numbers | None, picture: Path, title: str = ""
) -> None:
    """Draw the pictures of one bag in order, each with a bar for its attention, as a PNG.

    The longest bar is the largest attention; the number beside each is attention in percent.

    Args:
        images: (N, height, width), grey, larger is brighter; each is scaled to its own range.
        attention: (N,) probabilities.
        marked: (N,) boolean, True for the instances that make the bag positive, which get a frame; None if unknown.
        picture: of the PNG; its folder must exist.
        title: above all.

    Raises:
        ValueError: lengths that differ, or attention that is no probability distribution.
        OSError: the picture could not be written.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display
    from matplotlib.patches import Rectangle

    pixels = np.asarray(images, dtype=np.float64)
    if pixels.ndim != 3 or not len(pixels):
        raise ValueError(f"images must have shape (N, height, width) with N from 1, got {pixels.shape}")
    shares = _probabilities(attention, len(pixels))
    framed = np.zeros(len(pixels), bool) if marked is None else np.asarray(marked, dtype=bool)
    if framed.shape != (len(pixels),):
        raise ValueError(f"marked must have shape ({len(pixels)},), one for each image, got {framed.shape}")
    columns = min(len(pixels), _COLUMNS)
    rows = -(-len(pixels) // columns)
    height = 1.0 + 2.0 * _BAR + 0.1  # of a cell whose width is 1
    figure = Figure(figsize=(max(columns * 1.0, 4.0), rows * height + 0.5), layout="compressed")
    axes = figure.add_subplot()
    for index, (image, share, frame) in enumerate(zip(pixels, shares, framed, strict=True)):
        x, y = index % columns, (index // columns) * height
        axes.imshow(image, cmap="gray", extent=(x, x + _DIGIT, y + _DIGIT, y))
        length = _DIGIT * share / shares.max()
        axes.add_patch(Rectangle((x, y + _DIGIT + 0.05), length, _BAR, facecolor="tab:blue"))
        axes.text(x, y + _DIGIT + 0.06 + _BAR, f"{share:.1%}", va="top", fontsize=7)
        if frame:
            axes.add_patch(Rectangle((x, y), _DIGIT, _DIGIT, fill=False, edgecolor="tab:red", linewidth=2.5))
    axes.set(xlim=(-0.05, columns), ylim=(rows * height, -0.05), aspect="equal")
    axes.set_axis_off()
    figure.suptitle(title, fontsize=10)
    save_png(figure, picture, dpi=150)


def _probabilities(attention: Numbers, instances: int) -> NDArray[np.float64]:
    rows = as_values("attention", attention, instances)
    if len(rows) != 1 or rows.min() < 0.0 or abs(rows.sum() - 1.0) > 1e-3:  # half precision sums to within 1e-3
        raise ValueError(
            f"attention must be ({instances},) probabilities, got {rows.shape[0]} row(s) with values "
            f"from {rows.min():g} that sum to {rows.sum():g}: take the softmax of the logits"
        )
    shares: NDArray[np.float64] = rows[0]
    return shares
