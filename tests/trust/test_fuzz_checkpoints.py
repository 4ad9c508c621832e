"""Damaged and malicious checkpoint folders: none runs code, hangs, crashes or takes memory without bound."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("load_checkpoints.py")
CHECKPOINT_ERROR = "entroreg.checkpoint.errors.CheckpointError"
MEMORY = 256 << 20  # what loading one case may take; those that claim terabytes are among them


def _run(tmp_path: Path, first: int, count: int, script: tuple[str, ...] = (str(SCRIPT),)) -> list[dict[str, Any]]:
    """Run the cases in processes, a new one after each hang or crash."""
    reports: list[dict[str, Any]] = []
    stop = first + count
    while first < stop:
        folder = tmp_path / f"from-{first}"
        folder.mkdir()
        command = [sys.executable, *script, str(folder), str(first), str(stop)]
        run = subprocess.run(command, cwd=SCRIPT.parent, capture_output=True, text=True, timeout=3000)
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        reports += [line for line in lines if "outcome" in line]
        assert lines, run.stderr
        first = lines[-1]["case"] + 1
        if "outcome" not in lines[-1]:
            lines[-1]["outcome"] = "hang" if run.returncode == -signal.SIGALRM else f"crash {run.returncode}"
            reports.append(lines[-1])
    return reports


def _check(reports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = collections.Counter(report["outcome"] for report in reports)
    undocumented = [report for report in reports if not _is_documented(report)]
    hangs, crashes = outcomes["hang"], sum(outcomes[name] for name in outcomes if name.startswith("crash"))
    executed = [report for report in reports if report.get("executed")]
    taken_for_good = [report for report in reports if report["is_damage"] and report["outcome"] == "returned"]
    peak = max(report.get("peak", 0) for report in reports)
    with capsys.disabled():
        print(
            f"\n{len(reports)} hostile checkpoint folders: {len(executed)} executions, {hangs} hangs, {crashes} "
            f"crashes, {len(undocumented) - hangs - crashes} other exceptions, {len(taken_for_good)} damaged ones "
            f"taken for good, peak memory {peak / 2**20:.0f} MiB; {dict(outcomes.most_common())}"
        )
    assert executed == undocumented == taken_for_good == []
    assert peak < MEMORY


def _is_documented(report: dict[str, Any]) -> bool:
    if report["outcome"] == "builtins.ValueError":
        return " must have " in report["message"]
    return report["outcome"] in {"same", "returned", CHECKPOINT_ERROR, "builtins.FileNotFoundError"}


def test_200_hostile_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _check(_run(tmp_path, 0, 200), capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_5000_hostile_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = _run(tmp_path, 1000, 5000)
    assert len(reports) == 5000
    _check(reports, capsys)


_TRUSTING = """
import pickle, sys
from pathlib import Path
import load_checkpoints

def load(folder, with_tables):
    for path in folder.iterdir():
        try:
            pickle.loads(path.read_bytes())
        except pickle.UnpicklingError:
            pass

load_checkpoints.load, load_checkpoints.SECONDS = load, 1
load_checkpoints.main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_loader_that_trusts_files_is_found_out(tmp_path: Path) -> None:
    reports = _run(tmp_path, 0, 100, ("-c", _TRUSTING))
    assert len(reports) == 100
    outcomes = collections.Counter(report["outcome"] for report in reports)
    assert sum(report.get("executed", False) for report in reports) >= 3
    assert outcomes["hang"] >= 2  # pipes
    assert outcomes["builtins.MemoryError"] >= 1  # files with holes
    assert sum(not _is_documented(report) for report in reports) >= 10
