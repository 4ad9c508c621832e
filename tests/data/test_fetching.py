"""A data set in the cache is whole and the pinned one, or it is not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from entroreg.vision.data import archives, catalogue, clients, fetching
from entroreg.vision.data.catalogue import Member, Source
from entroreg.vision.data.errors import DataError
from entroreg.vision.data.fetching import FetchError, cache_folder, fetched, is_fetched

FILES = {"pkg/a.csv": b"1,1,0.5\n", "pkg/b.csv": b"0,2,0.25\n"}


class Index:
    """Stands in for the package clients: copies a local wheel, and counts."""

    def __init__(self, folder: Path) -> None:
        self.wheel = folder / "p-1-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as file:
            for name, data in FILES.items():
                file.writestr(name, data)
        self.asked: list[tuple[str, str]] = []

    def download(self, client: str, package: str, folder: Path) -> Path:
        self.asked.append((client, package))
        assert not list(folder.iterdir())
        return Path(shutil.copy(self.wheel, folder))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    (tmp_path / "index").mkdir()
    found = Index(tmp_path / "index")
    members = tuple(Member(path, hashlib.sha256(data).hexdigest()) for path, data in FILES.items())
    digest = hashlib.sha256(found.wheel.read_bytes()).hexdigest()
    entry = Source("pip", "p==1", digest, 1, members, "MIT", "two files")
    monkeypatch.setattr(fetching, "CATALOGUE", {"two-files": entry})
    monkeypatch.setattr(fetching, "download", found.download)
    monkeypatch.setenv("ENTROREG_DATA", str(tmp_path / "cache" / "data"))
    return found


def in_cache() -> list[Path]:
    return list(cache_folder().iterdir())


def test_a_data_set_is_fetched_once(index: Index) -> None:
    assert not is_fetched("two-files")
    folder = fetched("two-files")
    assert folder == cache_folder() / "two-files"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.csv": b"1,1,0.5\n",
        "b.csv": b"0,2,0.25\n",
    }
    assert is_fetched("two-files")
    assert fetched("two-files") == folder
    assert index.asked == [("pip", "p==1")]
    assert in_cache() == [folder]
    assert folder.stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_another_package_is_not_even_opened(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = hashlib.sha256(index.wheel.read_bytes()).hexdigest()
    with index.wheel.open("ab") as file:
        file.write(b" ")
    found = hashlib.sha256(index.wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(fetching, "extract", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(FetchError) as caught:
        fetched("two-files")
    assert str(caught.value) == (
        f"p-1-py3-none-any.whl must have SHA-256 {pinned}, got {found}: "
        "the package is another one than was pinned, and is not opened"
    )
    assert in_cache() == []


def test_another_member_of_an_unpinned_package(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    members = (Member("pkg/a.csv", hashlib.sha256(FILES["pkg/a.csv"]).hexdigest()), Member("pkg/b.csv", "0" * 64))
    source = Source("apt-get", "p", None, 1, members, "MIT", "")
    monkeypatch.setattr(fetching, "CATALOGUE", {"two-files": source})
    with pytest.raises(FetchError, match=rf"pkg/b\.csv must have SHA-256 {'0' * 64}, got .* is not used$"):
        fetched("two-files")
    assert in_cache() == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_fetch_that_is_stopped_leaves_nothing(
    stop: BaseException | type[BaseException], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = archives._write

    def stopped(member: Member, *rest: object) -> None:
        if written:
            raise stop
        write(member, *rest)  # type: ignore[arg-type]
        written.append(member.path)

    monkeypatch.setattr(archives, "_write", stopped)
    with pytest.raises(stop if isinstance(stop, type) else type(stop)):
        fetched("two-files")
    assert written == ["pkg/a.csv"]
    assert in_cache() == []
    assert not is_fetched("two-files")
    monkeypatch.setattr(archives, "_write", write)
    assert sorted(os.listdir(fetched("two-files"))) == ["a.csv", "b.csv"]


def test_another_process_may_be_first(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(client: str, package: str, folder: Path) -> Path:
        theirs = cache_folder() / "two-files"
        theirs.mkdir()
        (theirs / "a.csv").write_bytes(b"theirs")
        return index.download(client, package, folder)

    monkeypatch.setattr(fetching, "download", slow)
    assert (fetched("two-files") / "a.csv").read_bytes() == b"theirs"
    assert in_cache() == [cache_folder() / "two-files"]


def test_a_client_that_fails_leaves_nothing(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Path:
        raise FetchError("pip could not download p==1: no network")

    monkeypatch.setattr(fetching, "download", fails)
    with pytest.raises(DataError, match=r"^pip could not download p==1: no network$"):
        fetched("two-files")
    assert in_cache() == []


def test_an_unknown_name(index: Index) -> None:
    with pytest.raises(FetchError, match=r"^unknown data set 'two-file': did you mean 'two-files'\?$"):
        fetched("two-file")
    with pytest.raises(FetchError, match=r"^unknown data set 'x': there is two-files$"):
        fetched("x")
    assert index.asked == []


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ENTROREG_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "entroreg"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "entroreg"
    monkeypatch.setenv("ENTROREG_DATA", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.parametrize("name", catalogue.CATALOGUE)
def test_the_catalogue_is_pinned(name: str) -> None:
    source = catalogue.CATALOGUE[name]
    assert source.client in clients._CLIENTS
    if source.client != "apt-get":
        assert source.sha256 is not None
        assert source.package.rpartition("==" if source.client == "pip" else "@")[2].count(".") == 2
    for digest in (source.sha256, *(member.sha256 for member in source.members)):
        assert digest is None or (len(digest) == 64 and int(digest, 16))
    assert max(Counter(Path(member.path).name for member in source.members).values()) == 1
    assert not any(Path(member.path).is_absolute() or ".." in Path(member.path).parts for member in source.members)
    assert source.licence
    assert "\n" not in source.about
