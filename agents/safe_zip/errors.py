"""The one error of a file that is not loaded."""

from __future__ import annotations

from collections.abc import Iterable


class UnsafeZipError(ValueError):
    """A zip or a replay buffer that is damaged, malicious, or holds what is not loaded without ``trust=True``.

    Attributes:
        refused: what was refused by name, as "attribute: module.name"; empty for a damaged file.
    """

    def __init__(self, message: str, refused: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.refused = tuple(refused)
