"""What a heat map shows of attention."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.mil.heatmaps.arrays import Numbers, as_values


def over_uniform(logits: Numbers) -> NDArray[np.float64]:
    r"""Return (K, N), each tile's attention as a multiple of uniform attention, on a log2 scale.

    $$\log_2 (N p_n), \qquad p = \mathrm{softmax}(a)$$

    0 is uniform attention, 1 twice as much, -1 half as much; at most log2 N. Unlike the probabilities it can be
    compared between slides of different sizes, and unlike the logits between models.

    Args:
        logits: (K, N) floating attention logits of one slide, or (N,) for one row.

    Raises:
        ValueError: another shape, no tile, NaN or an infinity.

    Example:
        >>> over_uniform(np.log([[1.0, 1.0, 2.0, 4.0]])).round(6).tolist()
        [[-1.0, -1.0, 0.0, 1.0]]
    """
    tiles = np.shape(logits)[-1] if np.ndim(logits) else 0
    checked = as_values("logits", logits, tiles)
    if not tiles:
        raise ValueError("logits must have at least one tile, got none")
    shifted = checked - checked.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    result: NDArray[np.float64] = (log_probs + np.log(tiles)) / np.log(2.0)
    return result
