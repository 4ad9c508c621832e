"""Numbers over two parameters as colours, one scale for all maps beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from entroreg.benchmarks.report_page.formatting import shorten
from entroreg.benchmarks.report_page.markup import Markup, tag
from entroreg.benchmarks.report_page.svg import picture, text

__all__ = ["Grid", "colour_bar", "heat_map"]

WIDTH, LEFT, TOP, SIDE = 210.0, 44.0, 4.0, 160.0
# Viridis, by S. van der Walt and N. Smith, CC0: even in brightness, and for those who see no red or no green.
VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")


class Grid(NamedTuple):
    """Numbers over two parameters."""

    parameters: Sequence[str]
    values: Sequence[Sequence[float]]
    """Of the first parameter, and of the second."""
    returns: Sequence[Sequence[float]]
    """A row for each value of the first."""
    nominal: Sequence[float | None]
    """The task's own values, where known."""


def heat_map(title: str, grid: Grid, low: float, high: float) -> Markup:
    """Return a map with the first parameter upwards and the second to the right; a cross marks the task's own.

    Args:
        title: says what the picture shows.
        grid: what it shows.
        low: what the darkest colour stands for.
        high: what the brightest stands for.
    """
    rows, columns = len(grid.returns), len(grid.returns[0])
    height, width = SIDE / rows, SIDE / columns
    cells = []
    for i, row in enumerate(grid.returns):
        for j, value in enumerate(row):
            where = f"{grid.parameters[0]} {grid.values[0][i]:.4g}, {grid.parameters[1]} {grid.values[1][j]:.4g}"
            cells.append(
                tag(
                    "rect",
                    tag("title", f"{where}: {value:.4g}"),
                    x=LEFT + j * width,
                    y=TOP + SIDE - (i + 1) * height,
                    width=width + 0.3,  # no seam between cells
                    height=height + 0.3,
                    fill=_colour(value, low, high),
                )
            )
    return picture(title, WIDTH, TOP + SIDE + 36, *cells, *_nominal(grid), *_labels(grid), class_="map")


def colour_bar(label: str, low: float, high: float) -> Markup:
    """Return the scale that maps share."""
    steps, width = 48, 200.0
    bar = [
        tag("rect", x=i * width / steps, y=0, width=width / steps + 0.3, height=10, fill=_colour(i, 0, steps - 1))
        for i in range(steps)
    ]
    numbers = [text(0, 24, f"{low:.4g}", class_="tick"), text(width, 24, f"{high:.4g}", "end", "tick")]
    name = text(width / 2, 24, label, "middle", "tick")
    return picture(f"{label}, from {low:.4g} to {high:.4g}", width, 28, *bar, *numbers, name, class_="scale")


def _labels(grid: Grid) -> list[Markup]:
    first, second = grid.values
    bottom, right = TOP + SIDE, LEFT + SIDE
    across = LEFT + SIDE / 2
    return [
        text(LEFT - 4, bottom - 2, f"{first[0]:.3g}", "end", "tick"),
        text(LEFT - 4, TOP + 10, f"{first[-1]:.3g}", "end", "tick"),
        text(LEFT, bottom + 14, f"{second[0]:.3g}", class_="tick"),
        text(right, bottom + 14, f"{second[-1]:.3g}", "end", "tick"),
        text(across, bottom + 28, shorten(grid.parameters[1], 26), "middle", "label"),
        tag(
            "text",
            shorten(grid.parameters[0], 22),
            text_anchor="middle",
            class_="label",
            transform=f"translate({LEFT - 28:g} {TOP + SIDE / 2:g}) rotate(-90)",
        ),
    ]


def _nominal(grid: Grid) -> list[Markup]:
    shares = [_share(at, values) for at, values in zip(grid.nominal, grid.values, strict=True)]
    up, across = shares
    if up is None or across is None:
        return []
    x, y = LEFT + SIDE * across, TOP + SIDE * (1 - up)
    path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return [tag("path", d=path, class_="halo"), tag("path", d=path, class_="cross")]


def _share(at: float | None, values: Sequence[float]) -> float | None:
    """Where a value lies between the outer edges of the cells, None outside; values are evenly spaced."""
    if at is None or len(values) < 2:
        return None
    share = ((at - values[0]) / (values[-1] - values[0]) * (len(values) - 1) + 0.5) / len(values)
    return share if 0.0 <= share <= 1.0 else None


def _colour(value: float, low: float, high: float) -> str:
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5
    place = share * (len(VIRIDIS) - 1)
    below = min(int(place), len(VIRIDIS) - 2)
    mixed = [
        round(
            int(VIRIDIS[below][at : at + 2], 16) * (1 - place + below)
            + int(VIRIDIS[below + 1][at : at + 2], 16) * (place - below)
        )
        for at in (0, 2, 4)
    ]
    return "#" + "".join(f"{part:02x}" for part in mixed)
