"""Figures as PNG files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from entroreg import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_png(figure: Figure, picture: Path, *, dpi: int) -> None:
    """Write a figure as PNG in one step: a reader sees the old file or the new one.

    Raises:
        OSError: it could not be written.
    """
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=dpi)
    atomic.write_bytes(picture, encoded.getvalue())
