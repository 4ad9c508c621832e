"""The members of a zip, read through limits: nothing is written, and memory is bounded by the file's own size.

Python's ``zipfile`` reads; what it allows and a saved agent never has is refused before a member is opened:
encryption, other compression than deflate, links, names that lead elsewhere, two members of one name or in the same
bytes.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from entroreg.agents.safe_zip.errors import UnsafeZipError


@dataclass(frozen=True)
class Limits:
    """What a zip may be; the defaults are far above any agent's."""

    members: int = 1_000
    """Number of members."""
    ratio: int = 100
    """Bytes of a member for each byte in the file, above ``small``; base64 in JSON shrinks tenfold at best."""
    small: int = 1 << 20
    """Bytes that a member may have at any ratio."""
    total: int = 4 << 30
    """Bytes of all members together."""
    preceded: bool = True
    """Whether other bytes may stand before the zip, as in a file that an agent was saved into further on."""


OUTER = Limits()
# What torch.save writes has one member for each tensor, stored as it is.
TORCH = Limits(members=20_000, ratio=1, small=0, preceded=False)

_CHUNK = 1 << 20
_LONGEST_NAME = 256
_ENTRY = b"PK\x01\x02"  # begins each entry of a zip's directory
_MOST_ENTRIES = 50_000  # of a zip and the zips in it: zipfile keeps about 1 kB for each
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_KNOWN_FLAGS = 0x080E  # deflate's options, sizes after the data, names in UTF-8
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def read_file(path: str | Path | io.BufferedIOBase, suffix: str) -> bytes:
    """Return the bytes of a file, read once, so that what is checked is what is loaded.

    Args:
        path: of the file, tried with the suffix where it does not exist; or a file object, left where it was.
        suffix: without the dot.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if isinstance(path, str | Path):
        given = Path(path)
        return (given if given.exists() else Path(f"{path}.{suffix}")).read_bytes()
    position = path.tell()
    try:
        path.seek(0)
        return path.read()
    finally:
        path.seek(position)


def read_members(content: bytes, limits: Limits = OUTER) -> dict[str, bytes]:
    """Return the members of a zip by name.

    Args:
        content: of the zip.
        limits: what it may be.

    Raises:
        UnsafeZipError: it is no zip, damaged, beyond a limit, or has members that no saved agent has.
    """
    if content.count(_ENTRY) > _MOST_ENTRIES:
        raise UnsafeZipError(f"the zip has more than {_MOST_ENTRIES} members")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            _check_listing(members, limits)
            begin = _check_places(members, content, file.start_dir)
            if begin and not limits.preceded:
                raise UnsafeZipError("the zip does not begin where the file does: copy it again")
            return {member.filename: _read(file, member) for member in members if not member.is_dir()}
    except UnsafeZipError:
        raise
    except _ZIP_ERRORS as error:
        raise UnsafeZipError(f"the file wasn't a zip-file, or is damaged ({error}): copy it again") from error


def _check_listing(members: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(members) > limits.members:
        raise UnsafeZipError(f"the zip has {len(members)} members, more than {limits.members}")
    if len({member.filename for member in members}) < len(members):
        raise UnsafeZipError("the zip has two members of the same name")
    for member in members:
        _check_name(member)
        _check_kind(member)
        if member.file_size > max(limits.small, limits.ratio * member.compress_size):
            raise UnsafeZipError(
                f"member {member.filename!r} grows from {member.compress_size} to {member.file_size} bytes, more "
                f"than {limits.ratio} times"
            )
    total = sum(member.file_size for member in members)
    if total > limits.total:
        raise UnsafeZipError(f"the members of the zip have {total} bytes, more than {limits.total}")


def _check_name(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = name.removesuffix("/").split("/")
    plain = name.isprintable() and not set(name) & set("\\:") and len(name) <= _LONGEST_NAME
    if not plain or name != member.orig_filename or any(part in ("", ".", "..") for part in parts):
        raise UnsafeZipError(f"the member name {name[:_LONGEST_NAME]!r} is no plain relative path")


def _check_kind(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (member.is_dir() and member.file_size):
        raise UnsafeZipError(f"member {member.filename!r} is a link or a special file")
    if member.flag_bits & ~_KNOWN_FLAGS:
        raise UnsafeZipError(f"member {member.filename!r} is encrypted or of an unknown form")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeZipError(f"member {member.filename!r} has compression {member.compress_type}, not deflate")


def _check_places(members: list[zipfile.ZipInfo], content: bytes, end: int) -> int:
    """Refuse members that share bytes, as in a bomb; return where the first begins, 0 without any."""
    for member in sorted(members, key=lambda member: member.header_offset, reverse=True):
        if member.header_offset < 0:
            raise UnsafeZipError(f"member {member.filename!r} lies outside the file")
        _, name, extra = _LOCAL_HEADER.unpack_from(content, member.header_offset)
        if member.header_offset + _LOCAL_HEADER.size + name + extra + member.compress_size > end:
            raise UnsafeZipError(f"member {member.filename!r} overlaps the one after it")
        end = member.header_offset
    return end if members else 0


def _read(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    chunks, left = [], member.file_size + 1  # one more, to see a member that is larger than it says
    with file.open(member) as stream:
        while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
            chunks.append(chunk)
            left -= len(chunk)
    content = b"".join(chunks)
    if len(content) != member.file_size:
        raise UnsafeZipError(f"member {member.filename!r} does not have the {member.file_size} bytes that it says")
    return content
