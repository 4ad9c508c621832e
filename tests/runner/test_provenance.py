"""Where a result came from: this process, this commit, these versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from entroreg.benchmarks import provenance
from entroreg.benchmarks.provenance import collect

COMMAND = [Path(sys.argv[0]).name, *sys.argv[1:]]


def test_provenance_is_what_this_process_is() -> None:
    meta = collect(["entroreg", "bench"])
    assert json.loads(json.dumps(meta, allow_nan=False)) == meta
    assert meta["command"] == ["entroreg", "bench"]
    assert collect()["command"] == COMMAND
    assert collect([str(Path("some", "where", "entroreg")), "bench"])["command"] == ["entroreg", "bench"]
    assert meta["packages"]["torch"] == torch.__version__
    assert meta["python"] == platform.python_version()
    assert meta["torch_threads"] == torch.get_num_threads()
    assert 1 <= meta["cpus"] <= (os.cpu_count() or 1)
    assert meta["started"].endswith("+00:00")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with provenance.py in it, as in a checkout of entroreg."""
    (tmp_path / "provenance.py").write_text("1")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    _git(tmp_path, "init")
    return tmp_path


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_code(repository: Path) -> None:
    _git(repository, "add", ".")
    assert collect()["commit"] is None  # nothing is committed yet
    _git(repository, "commit", "-m", "first")
    head = _git(repository, "rev-parse", "HEAD")
    assert (collect()["commit"], collect()["dirty"]) == (head, False)
    (repository / "untracked").touch()
    assert collect()["dirty"] is False
    (repository / "provenance.py").write_text("2")
    assert (collect()["commit"], collect()["dirty"]) == (head, True)


def test_the_commit_is_not_that_of_a_repository_around_an_installed_copy(repository: Path) -> None:
    (repository / "other.py").touch()
    _git(repository, "add", "other.py")
    _git(repository, "commit", "-m", "first")
    assert (collect()["commit"], collect()["dirty"]) == (None, None)


def test_without_git_pips_record_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Distribution:
        version = "1.0"

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return record

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Distribution())
    record: str | None = '{"url": "https://example.org", "vcs_info": {"commit_id": "abc"}}'
    assert (collect()["commit"], collect()["dirty"]) == ("abc", None)
    record = '{"url": "file:///x", "dir_info": {}}'
    assert collect()["commit"] is None
    record = None
    assert collect()["commit"] is None
