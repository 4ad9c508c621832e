"""The folder that a verb is to write to, tried out before any work."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from entroreg.benchmarks.errors import UserError


def require_writable(out: Path) -> None:
    """Refuse a folder that cannot be made or written; nothing is left of the trial.

    Args:
        out: which need not exist, nor its parents.

    Raises:
        UserError: with what the system says.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            out.stat()  # says whether a name on the way is too long, a file, or a loop of links
        nearest = next(path for path in (out, *out.parents) if os.path.lexists(path))
        with tempfile.TemporaryDirectory(prefix=".", dir=nearest):
            pass
    except OSError as error:
        raise UserError(f"out must be a folder that can be written, got {error}: choose another --out") from error
