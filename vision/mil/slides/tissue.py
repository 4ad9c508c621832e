"""Where on a slide there is tissue: what is more colourful than glass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BINS = 256
_SMOOTHING = 1.5  # pixels: pale gaps between fibres and cells belong to the tissue
# Glass and the noise on it stay below the first. Above the second is stain on any slide: an image that is all
# tissue has no valley between tissue and glass, and Otsu's threshold would part dark tissue from pale.
_LOWEST, _HIGHEST = 0.05, 0.15
_DARK = 32  # of 255: hue and saturation of blacker pixels are noise; scanners pad with black


def saturation(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    r"""Return the saturation of each pixel in HSV, in [0, 1].

    .. math:: s = (\max - \min) / \max

    Args:
        image: (h, w, 3) uint8, RGB.

    Returns:
        (h, w); pixels that are nearly black have 0.

    Raises:
        ValueError: the image has another shape or type.

    Example:
        >>> saturation(np.array([[[200, 100, 50], [90, 90, 90]]], dtype=np.uint8)).tolist()
        [[0.75, 0.0]]
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (h, w, 3) uint8, got {image.shape} {image.dtype}: convert it to RGB")
    high, low = image.max(axis=-1), image.min(axis=-1)
    return np.where(high < _DARK, np.float32(0.0), (high - low) / np.maximum(high, 1).astype(np.float32))


def otsu_threshold(values: NDArray[np.floating]) -> float:
    r"""Return the threshold that parts values into the two classes with the largest variance between them.

    .. math:: t = \arg\max_t \; w_0(t) \, w_1(t) \, (\mu_0(t) - \mu_1(t))^2

    Args:
        values: of any shape, at least one, finite; counted in 256 bins between the lowest and the highest.

    Returns:
        The middle of the last bin of the lower class; the value itself where all are equal.

    Raises:
        ValueError: there is no value, or one is not finite.

    Reference: Otsu 1979, A threshold selection method from gray-level histograms, eq. 18.

    Example:
        >>> 0.0 <= otsu_threshold(np.array([0.0, 0.0, 1.0])) < 1.0
        True
    """
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"values must be finite and at least one, got {values.size} of them")
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    counts, edges = np.histogram(values, _BINS, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]  # the last split would leave the upper class empty
    above = values.size - below
    weighted = np.cumsum(counts * middles)
    means = weighted[:-1] / below, (weighted[-1] - weighted[:-1]) / above
    between = below * above.astype(float) * (means[0] - means[1]) ** 2
    return float(middles[np.argmax(between)])


def tissue_mask(image: NDArray[np.uint8], smallest: float = 0.0) -> NDArray[np.bool_]:
    """Return True where a slide's thumbnail shows tissue: saturation above Otsu's threshold.

    Differs from the paper: the threshold is held between 0.05, which keeps an empty slide empty, and 0.15, which
    keeps a slide that is all tissue whole.

    Args:
        image: (h, w, 3) uint8, RGB.
        smallest: pixels; connected pieces of tissue of fewer are dropped as dust.

    Returns:
        (h, w).

    Raises:
        ValueError: the image has another shape or type, or no pixel.

    Reference: Otsu 1979.
    """
    from scipy import ndimage

    colour = ndimage.gaussian_filter(saturation(image), _SMOOTHING)
    mask = colour > np.clip(otsu_threshold(colour), _LOWEST, _HIGHEST)
    pieces, _ = ndimage.label(mask)
    large = np.bincount(pieces.ravel()) >= smallest
    large[0] = False  # the ground
    return np.asarray(large[pieces])


def tissue_share(
    mask: NDArray[np.bool_], corners: NDArray[np.integer], side: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the share of each tile that is tissue, in [0, 1].

    Exact for tiles whose edges fall within pixels of the mask.

    Args:
        mask: (h, w) over the whole slide.
        corners: (n, 2), x and y of each tile's top left corner, in pixels of the slide.
        side: of a tile, in pixels of the slide.
        size: width and height of the slide; every tile lies inside.

    Returns:
        (n,).

    Example:
        >>> mask = np.array([[True, False]])
        >>> tissue_share(mask, np.array([[0, 0], [5, 0]]), 10, (20, 10)).tolist()
        [1.0, 0.5]
    """
    height, width = mask.shape
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    scale = np.array([width / size[0], height / size[1]])
    (left, top), (right, bottom) = (corners * scale).T, ((corners + side) * scale).T
    inside: NDArray[np.float64] = (
        _at(sums, bottom, right) - _at(sums, top, right) - _at(sums, bottom, left) + _at(sums, top, left)
    )
    # Differences of large sums leave an error of about 1e-10, with which a tile that is all tissue would be less.
    return np.asarray(np.round(inside / (side**2 * scale.prod()), 8))


def _at(sums: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over all above and left of points: bilinear between pixels, as each pixel is of one value."""
    row = np.clip(y.astype(int), 0, len(sums) - 2)
    column = np.clip(x.astype(int), 0, sums.shape[1] - 2)
    down, along = y - row, x - column
    upper = sums[row, column] * (1 - along) + sums[row, column + 1] * along
    lower = sums[row + 1, column] * (1 - along) + sums[row + 1, column + 1] * along
    return np.asarray(upper * (1 - down) + lower * down)
