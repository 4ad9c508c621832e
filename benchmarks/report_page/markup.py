"""Tags of HTML and SVG as text, with everything escaped that is not a tag itself."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ["Markup", "lines", "tag"]

_EMPTY = {"meta", "img"}  # HTML's own elements without an end tag
_SHAPES = {"circle", "line", "path", "rect", "polygon"}  # SVG's that hold nothing here


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element; children and attributes are escaped, except children that are `Markup`.

    Args:
        name: such as ``td``.
        children: text or elements, one after the other.
        attributes: None leaves one out; an underscore at the end is dropped, others become hyphens, so that
            ``class_`` is ``class`` and ``stroke_width`` is ``stroke-width``.

    Example:
        >>> tag("td", "a < b", class_="x")
        '<td class="x">a &lt; b</td>'
        >>> tag("b", tag("i", "y"))
        '<b><i>y</i></b>'
    """
    opened = name + "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{opened}>")
    if name in _SHAPES and not children:
        return Markup(f"<{opened}/>")
    inner = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{opened}>{inner}</{name}>")


def lines(parts: Iterable[str]) -> Markup:
    """Return elements one below the other; text that is no `Markup` is escaped."""
    return Markup("\n".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
