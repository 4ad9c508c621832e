"""Curves of one training, and the trade-off of a suite's methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_PANELS = (
    ("loss", "loss"),
    ("temperature_", "temperature of each teacher"),
    ("entropy_", "entropy of each teacher"),
)


def plot_rows(rows: Sequence[Mapping[str, float]], picture: Path, title: str) -> None:
    """Draw the metrics of a training as a PNG: losses, and where there are several teachers their balance.

    Args:
        rows: of metrics.jsonl.
        picture: of the PNG.
        title: above it.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    from entroreg.vision.mil.heatmaps.saving import save_png

    panels = [(prefix, label) for prefix, label in _PANELS if any(name.startswith(prefix) for name in rows[0])]
    figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, (prefix, label) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        for name in (name for name in rows[0] if name.startswith(prefix)):
            axes.plot(epochs, [row[name] for row in rows], label=name, lw=1.2)
        axes.set(xlabel="epochs", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.suptitle(title)
    save_png(figure, picture, dpi=100)


def plot_trade_off(methods: Mapping[str, Mapping[str, Any]], robust: str, picture: Path) -> None:
    """Draw clean against robust accuracy: a panel for each task, a point for each seed, a cross for the mean.

    Args:
        methods: by task, then by method, rows with lists of accuracies over seeds.
        robust: the name of the attack.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure

    from entroreg.vision.mil.heatmaps.saving import save_png

    figure = Figure(figsize=(5.5 * len(methods), 4.5), layout="constrained")
    for axes, (task, rows) in zip(
        figure.subplots(1, len(methods), squeeze=False).flat, methods.items(), strict=True
    ):
        for place, (method, row) in enumerate(rows.items()):
            clean, attacked = row["accuracy"]["clean"], row["accuracy"][robust]
            axes.plot(clean, attacked, "o", color=f"C{place}", alpha=0.4, ms=4)
            axes.plot(np.mean(clean), np.mean(attacked), "x", color=f"C{place}", ms=9, label=method)
        axes.set(title=task, xlabel="clean accuracy", ylabel=f"accuracy under {robust}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save_png(figure, picture, dpi=100)
