"""Hostile files loaded one after the other in a process of their own, and what came of them."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MEMORY = 256 << 20  # what loading one case may take; those that claim terabytes are among them
Report = dict[str, Any]


def load_cases(folder: Path, first: int, count: int, *script: str) -> list[Report]:
    """Load some cases by a script, with a new process after each hang or crash.

    Args:
        folder: for their files.
        first: number of the first case.
        count: of cases.
        script: its name, or ``-c`` and its text.
    """
    reports: list[Report] = []
    stop = first + count
    while first < stop:
        here = folder / f"from-{first}"
        here.mkdir()
        command = [sys.executable, *script, str(here), str(first), str(stop)]
        run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=3000)
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        reports += [line for line in lines if "outcome" in line]
        assert lines, run.stderr
        first = lines[-1]["case"] + 1
        if "outcome" not in lines[-1]:
            timed_out = -run.returncode in (signal.SIGALRM, signal.SIGPROF)
            lines[-1]["outcome"] = "hang" if timed_out else f"crash {run.returncode}"
            reports.append(lines[-1])
    return reports


def require_harmless(
    what: str, reports: list[Report], is_documented: Callable[[Report], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    """Print what came of the cases, and fail unless all of it is documented."""
    outcomes = collections.Counter(report["outcome"] for report in reports)
    undocumented = [report for report in reports if not is_documented(report)]
    hangs, crashes = outcomes["hang"], sum(outcomes[name] for name in outcomes if name.startswith("crash"))
    executed = [report for report in reports if report.get("executed")]
    taken_for_good = [report for report in reports if report["is_damage"] and report["outcome"] == "returned"]
    peak = max(report.get("peak", 0) for report in reports)
    with capsys.disabled():
        print(
            f"\n{len(reports)} hostile {what}: {len(executed)} executions, {hangs} hangs, {crashes} crashes, "
            f"{len(undocumented) - hangs - crashes} other exceptions, {len(taken_for_good)} damaged ones taken for "
            f"good, peak memory {peak / 2**20:.0f} MiB; {dict(outcomes.most_common())}"
        )
    assert executed == undocumented == taken_for_good == []
    assert peak < MEMORY
