"""Damage to the files of a checkpoint whose manifest knows nothing of it."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[random.Random, Path], None]
PICKLE_PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Touch:
    """What makes a file when it is unpickled: the sign that a checkpoint has run code."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.canary, "w")


def harmful_pickle(rng: random.Random, folder: Path) -> bytes:
    """A pickle that makes the file ``canary`` beside the folder."""
    return pickle.dumps(Touch(str(folder.parent / "canary")), protocol=rng.choice(PICKLE_PROTOCOLS))


def any_file(rng: random.Random, folder: Path) -> Path:
    return rng.choice(sorted(folder.iterdir()))


def _truncate(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    os.truncate(path, rng.randrange(path.stat().st_size))


def _extend(rng: random.Random, folder: Path) -> None:
    with any_file(rng, folder).open("ab") as file:
        file.write(rng.randbytes(rng.choice([1, 8, 100, 5000])))


def _flip_bits(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 1, 2, 10])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _overwrite(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    size = path.stat().st_size
    path.write_bytes(rng.choice([bytes(size), rng.randbytes(size), b"", harmful_pickle(rng, folder)]))


def _swap(rng: random.Random, folder: Path) -> None:
    first, second = any_file(rng, folder), any_file(rng, folder)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def _remove(rng: random.Random, folder: Path) -> None:
    any_file(rng, folder).unlink()


def _remove_all(rng: random.Random, folder: Path) -> None:
    shutil.rmtree(folder)
    if rng.random() < 0.5:
        rng.choice([folder.touch, folder.mkdir, lambda: os.mkfifo(folder), lambda: folder.symlink_to(folder)])()


def _link_elsewhere(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    outside = folder.parent / "outside"
    shutil.copy(path, outside)
    path.unlink()
    path.symlink_to(rng.choice(["/dev/zero", "/dev/stdin", "/etc/passwd", path.name, "nothing", outside, "/"]))


def _pipe(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    path.unlink()
    os.mkfifo(path)


def _folder(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    path.unlink()
    path.mkdir()


def _socket(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(path))


def _zip(rng: random.Random, folder: Path) -> None:
    path = any_file(rng, folder)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", harmful_pickle(rng, folder))
        archive.writestr("archive/version", "3\n")


def _hole(rng: random.Random, folder: Path) -> None:
    os.truncate(any_file(rng, folder), rng.choice([1 << 27, 1 << 36, 1 << 43]))


DAMAGES: tuple[Damage, ...] = (
    _truncate,
    _extend,
    _flip_bits,
    _overwrite,
    _swap,
    _remove,
    _remove_all,
    _link_elsewhere,
    _pipe,
    _folder,
    _socket,
    _zip,
    _hole,
)
