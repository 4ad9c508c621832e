"""Curves of several methods with their intervals as bands, and those of the last points side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from entroreg.benchmarks.report_page.formatting import shorten
from entroreg.benchmarks.report_page.markup import Markup, lines, tag
from entroreg.benchmarks.report_page.svg import Axis, bottom_axis, left_axis, padded, picture, text

__all__ = ["COLOURS", "Point", "Series", "line_chart"]

WIDTH, TOP, BOTTOM, LEFT, RIGHT = 400.0, 8.0, 210.0, 48.0, 382.0
COLOURS = 8  # that the page's style has, as classes s0 to s7
DASHES = (None, "7 3", "2 2.5", "9 3 2 3")  # so that lines differ without colour too
CROWD = 4  # more curves than these have bands that nobody can tell apart: their last intervals stand beside them
BETWEEN = 7.0  # those intervals


class Point(NamedTuple):
    """A point of a curve with its interval."""

    x: float
    y: float
    low: float
    high: float


class Series(NamedTuple):
    """A curve."""

    name: str
    points: Sequence[Point]


def line_chart(title: str, series: Sequence[Series], x_label: str, log: bool = False) -> Markup:
    """Return a chart of curves with a legend.

    Args:
        title: says what the picture shows.
        series: with at least one point each.
        x_label: of the horizontal axis.
        log: whether the vertical axis is logarithmic; all values must be positive.
    """
    xs = [point.x for one in series for point in one.points]
    ys = [y for one in series for point in one.points for y in point[1:]]
    crowded = len(series) > CROWD
    right = RIGHT - (BETWEEN * len(series) if crowded else 0.0)
    across = Axis(*((min(xs), max(xs)) if min(xs) < max(xs) else padded(xs)), LEFT, right)
    up = Axis(*((min(ys) / 1.1, max(ys) * 1.1) if log else padded(ys)), BOTTOM, TOP, log)
    drawn = [_curve(one, index, across, up) for index, one in enumerate(series)]
    ends = [_end(one, index, right, up) for index, one in enumerate(series)] if crowded else []
    legend, height = _legend(series, BOTTOM + 46)
    axes = [left_axis(up, LEFT, RIGHT), bottom_axis(across, TOP, BOTTOM, x_label)]
    return picture(title, WIDTH, height, *axes, lines(drawn), *ends, legend, class_=_classes(crowded))


def _classes(crowded: bool) -> str:
    return "curves crowded" if crowded else "curves"


def _curve(one: Series, index: int, across: Axis, up: Axis) -> Markup:
    line = [(across.at(p.x), up.at(p.y)) for p in one.points]
    edge = [(across.at(p.x), up.at(p.high)) for p in one.points]
    edge += [(across.at(p.x), up.at(p.low)) for p in reversed(one.points)]
    band = tag("path", d=f"{_path(edge)}Z", class_="band")
    if len(line) == 1:
        mark = tag("circle", cx=line[0][0], cy=line[0][1], r=4, class_="dot")
    else:
        mark = tag("path", d=_path(line), class_="line", stroke_dasharray=_dash(index))
    return tag("g", tag("title", one.name), band, mark, class_=f"s{index % COLOURS}")


def _end(one: Series, index: int, right: float, up: Axis) -> Markup:
    last, x = one.points[-1], right + BETWEEN * (index + 1)
    bar = tag("line", x1=x, x2=x, y1=up.at(last.low), y2=up.at(last.high), class_="line")
    dot = tag("circle", cx=x, cy=up.at(last.y), r=2.5, class_="dot")
    told = f"{one.name}: {last.y:.4g} [{last.low:.4g}, {last.high:.4g}] at {last.x:g}"
    return tag("g", tag("title", told), bar, dot, class_=f"s{index % COLOURS}")


def _legend(series: Sequence[Series], top: float) -> tuple[Markup, float]:
    columns = 2 if max(len(one.name) for one in series) <= 22 else 1
    width = (WIDTH - 8) / columns
    entries = []
    for index, one in enumerate(series):
        x, y = 8 + width * (index % columns), top + 18 * (index // columns)
        swatch = tag("line", x1=x, x2=x + 26, y1=y - 4, y2=y - 4, class_="line", stroke_dasharray=_dash(index))
        name = text(x + 32, y, shorten(one.name, 50 // columns), class_="name")
        entries.append(tag("g", tag("title", one.name), swatch, name, class_=f"s{index % COLOURS}"))
    return tag("g", *entries), top + 18 * ((len(series) - 1) // columns) + 8


def _dash(index: int) -> str | None:
    return DASHES[(index + index // COLOURS) % len(DASHES)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
