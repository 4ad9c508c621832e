"""Damage to a saved agent that nobody meant: bits, lengths, members; checksums stay as they were."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable

Damage = Callable[[random.Random, bytes], bytes]


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    return buffer.getvalue()


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 10, 100])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_bits_of_headers(rng: random.Random, content: bytes) -> bytes:
    """Where a reader of zips looks first: the headers of members, the directory, and its end."""
    changed = bytearray(content)
    places = [at for at in range(len(content) - 4) if content[at : at + 2] == b"PK" and content[at + 2] < 8]
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.choice(places) + rng.randrange(50)
        if at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def behead(rng: random.Random, content: bytes) -> bytes:
    return content[rng.randrange(len(content)) :]


def extend(rng: random.Random, content: bytes) -> bytes:
    more = rng.randbytes(rng.choice([1, 8, 100, 70_000]))
    return rng.choice([content + more, more + content])


def overwrite(rng: random.Random, content: bytes) -> bytes:
    at, length = rng.randrange(len(content)), rng.choice([1, 16, 512, 10_000])
    raw = rng.choice([bytes(length), rng.randbytes(length), content[:length]])
    return content[:at] + raw[: len(content) - at] + content[at + length :]


def cut_out(rng: random.Random, content: bytes) -> bytes:
    at, length = rng.randrange(len(content)), rng.choice([1, 16, 512])
    return content[:at] + content[at + length :]


def repeat(rng: random.Random, content: bytes) -> bytes:
    at, length = rng.randrange(len(content)), rng.choice([1, 64, 4096])
    return content[: at + length] + content[at:]


def replace_all(rng: random.Random, content: bytes) -> bytes:
    return rng.choice([b"", bytes(len(content)), rng.randbytes(len(content)), b"PK\x05\x06" + bytes(18)])


PICKLE_DAMAGES: list[Damage] = [flip_bits, truncate, behead, extend, overwrite, cut_out, repeat, replace_all]
DAMAGES = [flip_bits_of_headers, *PICKLE_DAMAGES]
