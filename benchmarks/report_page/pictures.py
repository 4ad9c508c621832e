"""Pictures inside the page, as data URIs, as many as its size allows."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Picture", "embedded"]

LARGE = 1400  # pixels; wider ones are made smaller, since no page shows more
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
    """A picture, or why there is none."""

    name: str
    uri: str | None
    width: int = 0
    height: int = 0
    note: str = ""


def embedded(paths: Sequence[Path], budget: int) -> Iterator[Picture]:
    """Return pictures as data URIs, in their order.

    Args:
        paths: of PNG files.
        budget: bytes of all URIs; a picture that would pass it is left out with a note.

    Raises:
        OSError: a file cannot be read.
    """
    names = [path.name for path in paths]
    for path in paths:
        name = path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}"
        data = path.read_bytes()
        if not data.startswith(_SIGNATURE) or len(data) < 24:
            yield Picture(name, None, note="left out: not a PNG")
            continue
        data = _smaller(data)
        uri = "data:image/png;base64," + base64.b64encode(data).decode()
        if len(uri) > budget:
            yield Picture(name, None, note=f"left out: with its {len(data)} bytes the page would be too large")
            continue
        budget -= len(uri)
        yield Picture(name, uri, *_size(data))


def _size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _smaller(data: bytes) -> bytes:
    """The picture at a width that a page shows, where Pillow is installed and that saves bytes."""
    width, height = _size(data)
    if width <= LARGE:
        return data
    try:
        from PIL import Image
    except ImportError:  # not worth a dependency: the picture is only larger
        return data
    resized = Image.open(io.BytesIO(data)).convert("RGB").resize((LARGE, round(height * LARGE / width)))
    stream = io.BytesIO()
    resized.save(stream, "PNG", optimize=True)
    return min(data, stream.getvalue(), key=len)
