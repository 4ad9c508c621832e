"""The error of data that cannot be used."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used; the message names the file or record and says what to do, in one line."""
