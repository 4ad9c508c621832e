"""What all charts share: the picture with its title, axes, texts. Colours are the page's, by CSS class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from entroreg.benchmarks.report_page.formatting import tick_text
from entroreg.benchmarks.report_page.markup import Markup, tag

__all__ = ["Axis", "bottom_axis", "left_axis", "picture", "text", "ticks"]


@dataclass(frozen=True)
class Axis:
    """Where numbers lie along one side of a chart."""

    low: float
    high: float
    start: float
    """Position of ``low``."""
    end: float
    """Position of ``high``."""
    log: bool = False
    """Whether equal ratios are equally long."""

    def at(self, value: float) -> float:
        """Return the position of a value; of one outside, that of the nearer end."""
        low, high, x = (math.log(v) if self.log else v for v in (self.low, self.high, self._inside(value)))
        return self.start + (self.end - self.start) * (x - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions and texts of its ticks."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [(self.at(10.0**power), f"{10.0**power:g}") for power in range(first, last + 1)]
        found = ticks(self.low, self.high)
        step = found[1] - found[0] if len(found) > 1 else 1.0
        return [(self.at(value), tick_text(value, step)) for value in found]

    def _inside(self, value: float) -> float:
        return min(max(value, self.low), self.high)


def picture(title: str, width: float, height: float, *children: str, class_: str | None = None) -> Markup:
    """Return an inline SVG that is as wide as its place, told by its title."""
    return tag(
        "svg",
        tag("title", title),
        *children,
        role="img",
        viewBox=f"0 0 {width:g} {height:g}",
        class_=class_,
    )


def text(x: float, y: float, content: str, anchor: str | None = None, class_: str | None = None) -> Markup:
    """Return a line of text; ``anchor`` says which part of it lies at x, its start if None."""
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def bottom_axis(axis: Axis, top: float, bottom: float, label: str) -> Markup:
    """Return ticks with lines over the chart's height, numbers below, and what they are below these."""
    marks = []
    for x, number in axis.ticks():
        marks.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        marks.append(text(x, bottom + 14, number, "middle", "tick"))
    marks.append(text((axis.start + axis.end) / 2, bottom + 28, label, "middle", "label"))
    return tag("g", *marks)


def left_axis(axis: Axis, left: float, right: float) -> Markup:
    """Return ticks with lines over the chart's width and numbers to the left."""
    marks = []
    for y, number in axis.ticks():
        marks.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        marks.append(text(left - 5, y + 4, number, "end", "tick"))
    return tag("g", *marks)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers from low to high, about so many.

    Example:
        >>> ticks(0.0, 103.0)
        [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def padded(values: Sequence[float], share: float = 0.05) -> tuple[float, float]:
    """Return both ends of an axis for values, with room at its ends; of equal values, room around them."""
    low, high = min(values), max(values)
    room = share * (high - low) or 0.5 * max(abs(high), 1e-9)
    return low - room, high + room
