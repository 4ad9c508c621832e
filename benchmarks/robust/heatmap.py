"""Heat maps of robust grids, side by side on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def draw_grids(rows: Sequence[Mapping[str, Mapping[str, Any]]], picture: Path) -> None:
    """Draw grids as a PNG: a row for each task, a panel for each policy; the task's own values are marked.

    Args:
        rows: for each task, title -> grid from ``robust_grid``.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    from entroreg.vision.mil.heatmaps.saving import save_png

    columns = max(map(len, rows))
    figure = Figure(figsize=(2.4 * columns + 1.2, 2.9 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(panels, rows, strict=True):
        returns = [np.asarray(grid["returns"]) for grid in row.values()]
        low, high = min(r.min() for r in returns), max(r.max() for r in returns)
        image = None
        for axes, (title, grid) in zip(line, row.items(), strict=False):
            if np.asarray(grid["returns"]).ndim == 1:
                _draw_line(axes, grid, (low, high))
            else:
                image = _draw_cells(axes, grid, low, high)
            axes.set_title(f"{title}\nmean {grid['mean']:.0f}, worst {grid['worst']:.0f}", fontsize="small")
        for axes in line[len(row) :]:
            axes.set_axis_off()
        if image is not None:
            figure.colorbar(image, ax=line, label="return", shrink=0.8)
    save_png(figure, picture, dpi=130)


def _draw_cells(axes: Any, grid: Mapping[str, Any], low: float, high: float) -> Any:
    first, second = grid["values"]
    image = axes.pcolormesh(second, first, grid["returns"], vmin=low, vmax=high, cmap="viridis", shading="nearest")
    y, x = grid["nominal_values"]
    if x is not None and y is not None:
        axes.plot(x, y, "x", color="white", mew=2)
        axes.set(xlim=_ends(second), ylim=_ends(first))
    axes.set_xlabel(grid["parameters"][1], fontsize="small")
    axes.set_ylabel(grid["parameters"][0], fontsize="small")
    return image


def _ends(values: Sequence[float]) -> tuple[float, float]:
    half = 0.5 * (values[1] - values[0])
    return values[0] - half, values[-1] + half


def _draw_line(axes: Any, grid: Mapping[str, Any], limits: tuple[float, float]) -> None:
    axes.plot(grid["values"][0], grid["returns"], ".-")
    axes.axhline(grid["nominal"], color="0.5", ls=":")
    axes.set(xlabel=grid["parameters"][0], ylabel="return", ylim=limits if limits[0] < limits[1] else None)
    axes.grid(alpha=0.3)
