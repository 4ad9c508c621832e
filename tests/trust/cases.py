"""A bad command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """A bad command line."""

    verb: str
    """Such as ``train sac``."""
    about: str
    """What is wrong: a flag, or a word."""
    arguments: tuple[str, ...]
    """Without the program's name."""
    prepare: Callable[[Path], None] | None = None
    """What makes the files that it names, in the folder where it runs."""
