"""Damaged and malicious zips and replay buffers: none runs code, hangs, crashes or takes memory without bound."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("load_zips.py")
DOCUMENTED = {"same", "returned", "entroreg.agents.safe_zip.errors.UnsafeZipError"}
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
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        reports += [line for line in lines if "outcome" in line]
        assert lines, run.stderr
        first = lines[-1]["case"] + 1
        if "outcome" not in lines[-1]:
            timed_out = -run.returncode in (signal.SIGALRM, signal.SIGPROF)
            lines[-1]["outcome"] = "hang" if timed_out else f"crash {run.returncode}"
            reports.append(lines[-1])
    return reports


def _check(reports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = collections.Counter(report["outcome"] for report in reports)
    undocumented = [report for report in reports if report["outcome"] not in DOCUMENTED]
    hangs, crashes = outcomes["hang"], sum(outcomes[name] for name in outcomes if name.startswith("crash"))
    executed = [report for report in reports if report.get("executed")]
    taken_for_good = [report for report in reports if report["is_damage"] and report["outcome"] == "returned"]
    peak = max(report.get("peak", 0) for report in reports)
    with capsys.disabled():
        print(
            f"\n{len(reports)} hostile zips and replay buffers: {len(executed)} executions, {hangs} hangs, "
            f"{crashes} crashes, {len(undocumented) - hangs - crashes} other exceptions, {len(taken_for_good)} "
            f"damaged ones taken for good, peak memory {peak / 2**20:.0f} MiB; {dict(outcomes.most_common())}"
        )
    assert executed == undocumented == taken_for_good == []
    assert peak < MEMORY


def test_60_hostile_zips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _check(_run(tmp_path, 0, 60), capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_5000_hostile_zips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = _run(tmp_path, 1000, 5000)
    assert len(reports) == 5000
    assert len({change for report in reports for change in report["changes"]}) == 30
    _check(reports, capsys)


_TRUSTING = """
import contextlib, io, sys
from pathlib import Path
import stable_baselines3
import load_zips

def load(content, way, agent):
    with contextlib.suppress(ModuleNotFoundError):  # gym
        if way == "buffer":
            agent.load_replay_buffer(io.BytesIO(content), trust=True)
        else:
            stable_baselines3.SAC.load(io.BytesIO(content), device="cpu")
    return ""

load_zips.load, load_zips.SECONDS = load, 5
load_zips.main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_loader_that_trusts_zips_is_found_out(tmp_path: Path) -> None:
    reports = _run(tmp_path, 0, 150, ("-c", _TRUSTING))
    assert len(reports) == 150
    assert sum(report.get("executed", False) for report in reports) >= 5
    assert sum(report["outcome"] not in DOCUMENTED for report in reports) >= 30
