"""Disks that are full, read-only or split: a save raises, and every older checkpoint is as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from entroreg.checkpoint import Table, load_checkpoint, save_checkpoint

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A function that mounts something on a folder, until the test ends."""
    mounted: list[Path] = []

    def call(target: Path, *arguments: object) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        command = ["mount", *map(str, arguments), str(target)]
        try:
            run = subprocess.run(command, capture_output=True)
        except FileNotFoundError:
            pytest.skip("needs the command mount")
        if run.returncode != 0:
            pytest.skip(f"needs the right to mount: {run.stderr.decode(errors='replace')}")
        mounted.append(target)
        return target

    yield call
    for target in reversed(mounted):
        subprocess.run(["umount", str(target)], check=True)


def _table() -> Table:
    table = Table(np.zeros((5000, 3), np.float32), block_bytes=1000 * 12)
    table.filled = 5000
    return table


def _save(folder: Path, step: int, table: Table | None, keep: int = 1) -> None:
    tables = {}
    if table is not None:
        table.rows[step * 1000 : step * 1000 + 1001] = step
        table.mark(step * 1000, step * 1000 + 1001)
        tables = {"replay": table}
    save_checkpoint(folder, {"weight": torch.full((3000,), float(step))}, {"step": step}, tables=tables, keep=keep)


def _step(folder: Path, table: Table | None) -> int:
    """Which save is there, checked to be one and the same in all its parts."""
    loaded = None if table is None else _table()
    tensors, metadata = load_checkpoint(folder, tables={} if loaded is None else {"replay": loaded})
    assert torch.equal(tensors["weight"], torch.full((3000,), float(metadata["step"])))
    if loaded is not None:
        assert loaded.rows[metadata["step"] * 1000 + 1, 0] == metadata["step"]
    return int(metadata["step"])


def _contents(root: Path) -> dict[str, bytes]:
    """All files below a folder, those of any left-over folder included, and the folders."""
    paths = sorted(root.rglob("*"))
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"" for path in paths}


def _fill(disk: Path, leave: int) -> Path:
    """Fill a disk but for some bytes; return the file that does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, max(0, filler.stat().st_size - leave))
    return filler


def _is_full(save: Callable[[], None]) -> bool:
    """Whether a save fails for want of room."""
    try:
        save()
    except OSError as error:
        if error.errno != errno.ENOSPC and "No space left on device" not in str(error):
            raise
        return True
    return False


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("keep", [1, 2])
def test_a_full_disk_at_any_point_of_a_save(tmp_path: Path, mount: Mount, has_table: bool, keep: int) -> None:
    disk = mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    table = _table() if has_table else None
    folder = disk / "last"
    for step in range(2):
        _save(folder, step, table, keep)
    failures = 0
    for pages in range(100):
        filler = _fill(disk, pages * 4096)
        before = _contents(disk)
        if not _is_full(lambda: _save(folder, 2, table, keep)):
            break
        failures += 1
        assert _contents(disk) == before
        assert _step(folder, table) == 1
        filler.unlink()
    assert failures == (
        11 if has_table else 5
    )  # the pages of what is written, three of them for each changed block
    assert _step(folder, table) == 2
    assert _step(folder.with_name("last.previous"), table) == 1


@pytest.mark.parametrize("has_table", [False, True])
def test_no_room_for_another_file(tmp_path: Path, mount: Mount, has_table: bool) -> None:
    disk = mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m,nr_inodes=30", "tmpfs")
    table = _table() if has_table else None
    _save(disk / "last", 1, table)
    failures = 0
    for files in range(28, 0, -1):
        made = [disk / str(index) for index in range(files)]
        with contextlib.suppress(OSError):
            for path in made:
                path.touch()
        before = _contents(disk)
        if not _is_full(lambda: _save(disk / "last", 2, table)):
            break
        failures += 1
        assert _contents(disk) == before
        for path in made:
            path.unlink(missing_ok=True)
    assert failures > 3
    assert _step(disk / "last", table) == 2


@pytest.mark.parametrize("has_table", [False, True])
def test_a_read_only_disk(tmp_path: Path, mount: Mount, has_table: bool) -> None:
    disk = mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    table = _table() if has_table else None
    _save(disk / "last", 1, table)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = _contents(disk)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        _save(disk / "last", 2, table)
    assert caught.value.errno == errno.EROFS
    assert _contents(disk) == before
    assert _step(disk / "last", table) == 1
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    _save(disk / "last", 3, table)
    assert _step(disk / "last", table) == 3


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_checkpoint_that_is_a_mount_point(tmp_path: Path, mount: Mount, has_table: bool, keep: int) -> None:
    root = tmp_path / "root"
    table = _table() if has_table else None
    for step in range(3):
        _save(root / "last", step, table, keep=2)
    mount(root / "last", "--bind", root / "last")
    before = _contents(root)
    with pytest.raises(OSError, match="busy") as caught:
        _save(root / "last", 3, table, keep)
    assert caught.value.errno == errno.EBUSY
    assert _contents(root) == before
    assert _step(root / "last", table) == 2


@pytest.mark.parametrize("has_table", [False, True])
def test_a_checkpoint_of_a_lower_layer_cannot_be_renamed(tmp_path: Path, mount: Mount, has_table: bool) -> None:
    layers = mount(tmp_path / "layers", "-t", "tmpfs", "tmpfs")
    for name in ("lower", "upper", "work"):
        (layers / name).mkdir()
    table = _table() if has_table else None
    for step in range(2):
        _save(layers / "lower" / "last", step, table)
    folders = ",".join(f"{name}dir={layers / name}" for name in ("lower", "upper", "work"))
    merged = mount(tmp_path / "merged", "-t", "overlay", "-o", f"{folders},redirect_dir=off", "overlay")
    before = _contents(merged)
    with pytest.raises(OSError, match="cross-device") as caught:
        _save(merged / "last", 2, table)
    assert caught.value.errno == errno.EXDEV
    assert _contents(merged) == before
    assert _step(merged / "last", table) == 1
    _save(merged / "other", 2, table)
    _save(merged / "other", 3, table)
    assert _step(merged / "other", table) == 3


@pytest.mark.parametrize("has_table", [False, True])
def test_a_link_to_another_disk(tmp_path: Path, mount: Mount, has_table: bool) -> None:
    disk = mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    (disk / "real").mkdir()
    (tmp_path / "run").symlink_to(disk / "real")
    (tmp_path / "last").symlink_to(disk / "real" / "last")
    table = _table() if has_table else None
    for step in range(3):
        _save(tmp_path / "last", step, table)
        assert _step(tmp_path / "run" / "last", table) == step
    assert sorted(path.name for path in (disk / "real").iterdir()) == ["last", "last.previous"]
    assert (tmp_path / "last").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "last", "run"]
