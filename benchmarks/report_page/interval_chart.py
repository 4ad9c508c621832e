"""One row for each method: its number as a dot, its interval as a bar, single values as small dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from entroreg.benchmarks.report_page.formatting import shorten
from entroreg.benchmarks.report_page.markup import Markup, tag
from entroreg.benchmarks.report_page.svg import Axis, bottom_axis, padded, picture, text

__all__ = ["Row", "Standing", "interval_chart"]

Standing = Literal["best", "even", "worse", "bound"]

WIDTH, ROW = 400.0, 36.0
SIDES = (14.0, WIDTH - 14.0)  # room for half of the numbers at the axis's ends
MOST_DOTS = 12  # more single values would be a smear
NAME, CHARACTER = 36, 6.9  # characters of a name, width of one


@dataclass(frozen=True)
class Row:
    """A method."""

    name: str
    text: str
    """Its number and interval, or why it has none."""
    value: float | None
    interval: Sequence[float] | None = None
    values: Sequence[float] = ()
    """The single ones, by seed or round."""
    standing: Standing = "worse"
    """The best, not shown to differ from it, worse, or no rival."""


def interval_chart(title: str, rows: Sequence[Row], label: str, from_zero: bool) -> Markup:
    """Return a chart of methods, in the order of the rows.

    Args:
        title: says what the picture shows.
        rows: from the best to the worst.
        label: of the axis.
        from_zero: whether the axis must hold 0, so that lengths compare as the numbers do.
    """
    shown = [row for row in rows if row.value is not None]
    points = [x for row in shown for x in (row.value or 0.0, *(row.interval or ()), *_dots(row))]
    low, high = padded([*points, 0.0] if from_zero or not points else points)
    axis = Axis(min(points) if min(points, default=1.0) < 0 else 0.0, high, *SIDES) if from_zero else None
    axis = axis or Axis(low, high, *SIDES)
    bottom = len(rows) * ROW + 4
    drawn = [_row(row, index * ROW + 4, axis) for index, row in enumerate(rows)]
    frame = bottom_axis(axis, 4, bottom, label)
    return picture(title, WIDTH, bottom + 36, frame, *drawn, class_="intervals")


def _row(row: Row, top: float, axis: Axis) -> Markup:
    length = max(8, min(NAME, int((WIDTH - 16) / CHARACTER) - len(row.text) - 1))
    parts = [
        tag("title", f"{row.name}: {row.text}"),
        text(8, top + 13, shorten(row.name, length), class_="name"),
        text(WIDTH - 8, top + 13, row.text, "end", "value"),
    ]
    y = top + 24
    parts += [tag("circle", cx=axis.at(value), cy=y, r=2, class_="single") for value in _dots(row)]
    if row.interval is not None:
        low, high = (axis.at(end) for end in row.interval)
        parts.append(tag("line", x1=low, x2=high, y1=y, y2=y, class_="bar"))
    if row.value is not None:
        parts.append(tag("circle", cx=axis.at(row.value), cy=y, r=5, class_="dot"))
    return tag("g", *parts, class_=row.standing)


def _dots(row: Row) -> Sequence[float]:
    return row.values if len(row.values) <= MOST_DOTS else ()
