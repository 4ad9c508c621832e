"""The runner against kill, Ctrl-C, SIGTERM, a second runner, a full disk: nothing is lost, nothing runs twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks.bench import summaries_in
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.status import status

# As in a terminal: what starts tests in the background has SIGINT ignored, which processes inherit.
_CODE = """
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)
from entroreg.benchmarks.cli import main

sys.exit(main(sys.argv[1:]))
"""
_PATIENCE = 90.0


def _started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def _pids(out: Path) -> list[int]:
    return [int(path.read_text()) for path in out.rglob("pid") if path.read_text()]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie answers too; its parent is gone and whoever inherits it has not looked yet.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def _comparable(out: Path) -> dict[str, Any]:
    (summary,) = summaries_in(out).values()
    return {name: value for name, value in summary.items() if name not in ("provenance", "commits")}


@contextlib.contextmanager
def _running(out: Path, toy: str, *arguments: str, cells: int = 1) -> Iterator[subprocess.Popen[str]]:
    """A command that runs until some cells have begun."""
    with _started("bench", "run", toy, "--out", str(out), *arguments) as process:
        try:
            _wait_until(lambda: len(_pids(out)) >= cells or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_as_if_undisturbed(
    tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setenv("TOY_METHODS", "brief")
    monkeypatch.setenv("TOY_SEEDS", "12")
    out = tmp_path / "killed"
    chance = random.Random(kills)
    written: dict[Path, tuple[int, int]] = {}
    in_the_middle = 0
    for index in range(kills):
        with _started("bench", "run", toy, "--jobs", "2", "--out", str(out)) as process:
            if index % 3:  # while cells run; else while the runner starts
                before = len(list(out.rglob("result.json")))
                _wait_until(lambda b=before: len(list(out.rglob("result.json"))) > b or process.poll() is not None)
            time.sleep(chance.uniform(0.0, 0.3))
            in_the_middle += process.poll() is None
            process.kill()
        for path in out.rglob("result.json"):
            now = (path.stat().st_mtime_ns, path.stat().st_ino)
            assert written.setdefault(path, now) == now  # no cell is done twice
    assert in_the_middle > kills / 2
    assert main(["bench", "run", toy, "--jobs", "2", "--out", str(out)]) == 0
    assert all((path.stat().st_mtime_ns, path.stat().st_ino) == was for path, was in written.items())
    assert main(["bench", "run", toy, "--jobs", "2", "--out", str(tmp_path / "undisturbed")]) == 0
    summary = _comparable(out)
    assert len(summary["cells"]) == 24
    assert summary == _comparable(tmp_path / "undisturbed")
    assert not list((out / "toy").glob(".running-*"))


def test_cells_end_with_a_runner_that_was_killed(tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_METHODS", "endless")
    with _running(tmp_path / "runs", toy, "--jobs", "2", cells=2) as process:
        pids = _pids(tmp_path / "runs")
        assert all(map(_alive, pids))
        process.kill()
    _wait_until(lambda: not any(map(_alive, pids)))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_told_to_stop_it_ends_its_cells_and_can_go_on(
    tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    monkeypatch.setenv("TOY_METHODS", "patient")
    monkeypatch.setenv("TOY_SEEDS", "1")
    out = tmp_path / "runs"
    with _running(out, toy) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == code
    assert "Traceback" not in err
    assert not any(map(_alive, _pids(out)))
    assert [path.read_text() for path in out.rglob("state")] == ["kept"]  # the second cell did not begin
    assert not list(out.rglob("result.json"))
    (suite,) = status(out)
    assert suite["states"] == {"stopped": 1, "waiting": 1}
    monkeypatch.setenv("TOY_METHODS", "patient")
    (out / "toy" / "patient" / "t2" / "seed-0").mkdir(parents=True)
    (out / "toy" / "patient" / "t2" / "seed-0" / "state").write_text("kept")
    assert main(["resume", str(out)]) == 0
    assert len(list(out.rglob("result.json"))) == 2


def test_two_runners_never_write_one_folder(
    tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_METHODS", "endless")
    with _running(tmp_path, toy):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
        assert main(["bench", "run", toy, "--out", str(tmp_path)]) == 2
        assert "is being written by another process: wait for it, or choose" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
        (suite,) = status(tmp_path)
        assert suite["states"] == {"running": 1, "waiting": 3}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk needs the right to mount one")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_fails_loudly_and_loses_nothing(
    small_disk: Path, toy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "run", toy, "--seeds", "1", "--out", str(small_disk)]
    assert main(arguments) == 0
    done = {path: path.read_bytes() for path in small_disk.rglob("*.json")}
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    capsys.readouterr()
    assert main(["bench", "run", toy, "--seeds", "2", "--out", str(small_disk)]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("entroreg: error: the run failed: [Errno 28] No space left on device")
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in done} == done
    filler.unlink()
    assert main(["bench", "run", toy, "--seeds", "2", "--out", str(small_disk)]) == 0
    assert len(json.loads((small_disk / "toy" / "summary.json").read_bytes())["cells"]) == 4
