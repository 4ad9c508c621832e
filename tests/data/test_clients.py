"""The package clients bring one file or one clear line, and nothing of a package is executed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from entroreg.vision.data import clients
from entroreg.vision.data.clients import FetchError, download


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "downloads"
    made.mkdir()
    return made


def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: str, script: str) -> None:
    """Put a client of one's own in front of all others on PATH."""
    program = tmp_path / "bin" / client
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


NPM_NO_VERSION = """npm error code ETARGET
npm error notarget No matching version found for a@9.
npm error notarget In most cases you or one of your dependencies are requesting
npm error A complete log of this run can be found in: /somewhere/debug-0.log"""
NPM_NO_NETWORK = """npm error code ENOTFOUND
npm error syscall getaddrinfo
npm error errno ENOTFOUND
npm error network request to a failed, reason: getaddrinfo ENOTFOUND
npm error network This is a problem related to network connectivity."""
NPM_OLD = "npm ERR! code E404\nnpm ERR! 404 Not Found - GET a"


@pytest.mark.parametrize(
    ("client", "errors", "reason"),
    [
        ("npm", NPM_NO_VERSION, "No matching version found for a@9.; see whether 'npm ping' works here"),
        ("npm", NPM_NO_NETWORK, "request to a failed, reason: getaddrinfo ENOTFOUND; see whether"),
        ("npm", NPM_OLD, "Not Found - GET a; see whether"),
        ("npm", "Killed", "Killed; see whether"),
        ("npm", "", "it gave no reason; see whether"),
        (
            "apt-get",
            "W: sandbox\nE: Unable to locate package a@9",
            "Unable to locate package a@9; run 'apt-get update' first",
        ),
    ],
)
def test_a_client_that_fails(
    client: str, errors: str, reason: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, tmp_path, client, f"cat >&2 <<'END'\n{errors}\nEND\nexit 1")
    with pytest.raises(FetchError) as caught:
        download(client, "a@9", folder)
    assert str(caught.value).startswith(f"{client} could not download a@9: {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("client", ["npm", "apt-get"])
def test_a_client_that_is_missing(client: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(FetchError, match=rf"^a comes through {client}, which is not on PATH: install {client}$"):
        download(client, "a", folder)


@pytest.mark.parametrize(("script", "count"), [("true", 0), ("touch a.tgz b.tgz", 2)])
def test_a_client_that_leaves_no_one_file(
    script: str, count: int, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, tmp_path, "npm", script)
    with pytest.raises(FetchError, match=rf"^npm must leave one file of a@1, got {count}: try again$"):
        download("npm", "a@1", folder)


def test_a_client_that_hangs(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, tmp_path, "npm", "exec sleep 60")
    monkeypatch.setattr(clients, "_SECONDS", 0.2)
    with pytest.raises(FetchError, match=r"^npm must bring a@1 within 0\.2 s, got nothing yet: try again$"):
        download("npm", "a@1", folder)


def test_how_clients_are_called(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for client, words in (("npm", "pack --ignore-scripts a"), ("apt-get", "download a")):
        fake(monkeypatch, tmp_path, client, f'echo "$@" > {tmp_path}/{client}.words; touch {client}.tgz')
        assert download(client, "a", folder) == folder / f"{client}.tgz"
        assert (tmp_path / f"{client}.words").read_text() == f"{words}\n"
        (folder / f"{client}.tgz").unlink()


def _wheel(folder: Path, requires_python: str) -> Path:
    metadata = f"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Python: {requires_python}\n"
    entries = {
        "tiny/data.csv": "1,2,3\n",
        "tiny-1.0.dist-info/METADATA": metadata,
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    entries["tiny-1.0.dist-info/RECORD"] = f"{record}tiny-1.0.dist-info/RECORD,,\n"
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in entries.items():
            file.writestr(name, text)
    return path


@pytest.fixture
def offline_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip see one folder and no network."""
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def test_pip_itself(offline_index: Path, folder: Path) -> None:
    """A wheel for another Python is data all the same."""
    source = _wheel(offline_index, "<3.0")
    found = download("pip", "tiny==1.0", folder)
    assert found == folder / source.name
    assert found.read_bytes() == source.read_bytes()


def test_pip_runs_no_setup(offline_index: Path, tmp_path: Path, folder: Path) -> None:
    setup, ran = tmp_path / "setup.py", tmp_path / "ran"
    setup.write_text(f"open({str(ran)!r}, 'w')\n")
    with tarfile.open(offline_index / "tiny-1.0.tar.gz", "w:gz") as file:
        file.add(setup, "tiny-1.0/setup.py")
    with pytest.raises(
        FetchError, match=r"^pip could not download tiny==1\.0: Could not find a version that .*pip"
    ):
        download("pip", "tiny==1.0", folder)
    assert not ran.exists()


def test_a_python_without_pip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (sys.executable, "-m", "pip_that_is_not_there")
    monkeypatch.setitem(clients._CLIENTS, "pip", replace(clients._CLIENTS["pip"], command=command))
    with pytest.raises(FetchError, match=r"download a==1: .*No module named pip_that_is_not_there; see whether"):
        download("pip", "a==1", folder)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_npm_itself_runs_no_script(tmp_path: Path, folder: Path) -> None:
    package, ran = tmp_path / "package", tmp_path / "ran"
    package.mkdir()
    scripts = {name: f"touch {ran}" for name in ("prepack", "prepare", "postpack", "preinstall")}
    (package / "package.json").write_text(json.dumps({"name": "tiny", "version": "1.0.0", "scripts": scripts}))
    (package / "data.csv").write_text("1,2,3\n")
    assert download("npm", str(package), folder) == folder / "tiny-1.0.0.tgz"
    assert not ran.exists()
