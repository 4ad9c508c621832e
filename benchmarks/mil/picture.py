"""The learning curves of a cross-validation: a thin line for each fold, and their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("loss", ("train/loss", "validation/loss")),
    ("validation score", ("validation/auroc", "validation/macro_f1")),
    ("attention entropy / log N", ("train/attention_entropy_share", "validation/attention_entropy_share")),
    ("lambda of AEM", ("train/lambda",)),
)


def plot_folds(rows: Sequence[Mapping[str, Any]], picture: Path, title: str) -> None:
    """Draw the rows of a run's metrics.jsonl as a PNG.

    Args:
        rows: one for each fold and epoch; a panel whose quantities are in none is left empty.
        picture: of the PNG.
        title: above the panels.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    from entroreg.vision.mil.heatmaps.saving import save_png

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    figure.suptitle(title)
    for axes, (label, names) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for place, name in enumerate(names):
            _draw(axes, rows, name, f"C{place}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
        else:
            axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes)
    save_png(figure, picture, dpi=110)


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, colour: str) -> None:
    having = [row for row in rows if row.get(name) is not None]
    if not having:
        return
    for fold in sorted({row["fold"] for row in having}):
        of_fold = [row for row in having if row["fold"] == fold]
        points = [(row["epoch"], row[name]) for row in of_fold]
        axes.plot(*zip(*points, strict=True), color=colour, lw=0.5, alpha=0.5)
    epochs = sorted({row["epoch"] for row in having})
    means = [np.mean([row[name] for row in having if row["epoch"] == epoch]) for epoch in epochs]
    axes.plot(
        epochs, means, color=colour, lw=1.6, label=f"{name.replace('/', ' ').replace('_', ' ')}, mean of folds"
    )
