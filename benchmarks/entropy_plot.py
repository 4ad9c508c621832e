"""The history of an entropy monitor as a picture: predicted beside measured changes, covariance and entropy."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from entroreg import atomic

COLUMNS = ("step", "entropy", "covariance", "predicted", "measured")


def plot_entropy_monitor(
    columns: Mapping[str, Sequence[float | None]], picture: Path, title: str = "Change of policy entropy"
) -> None:
    """Draw the columns of an ``EntropyMonitor`` as a PNG; a picture that was there before is replaced at once.

    Args:
        columns: from ``EntropyMonitor.columns()``; None is a gap.
        picture: of the PNG.
        title: above the curves.

    Raises:
        ValueError: a column is missing, or they differ in length.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"columns must have {list(COLUMNS)}, missing {missing}: take EntropyMonitor.columns()")
    lengths = {name: len(columns[name]) for name in COLUMNS}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns must be of one length, got {lengths}: take EntropyMonitor.columns()")
    steps, entropy, covariance, predicted, measured = (np.array(columns[name], dtype=float) for name in COLUMNS)
    figure = Figure(figsize=(7, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
    top.plot(steps, measured, "o", ms=3, color="0.5", label="measured")
    top.plot(steps, predicted, color="C0", label="predicted: -eta Cov(log pi, A)")
    top.axhline(0.0, color="0.3", lw=0.8)
    top.set(title=title, ylabel="change of entropy (nats)")
    top.legend(loc="best", fontsize="small")
    middle.plot(steps, covariance, color="C1")
    middle.set_ylabel("Cov(log pi, A)")
    bottom.plot(steps, entropy, color="C2")
    bottom.set(ylabel="entropy (nats)", xlabel="step")
    for axes in (top, middle, bottom):
        axes.grid(alpha=0.3)
    image = io.BytesIO()
    figure.savefig(image, dpi=130, format="png")
    atomic.write_bytes(picture, image.getvalue())
