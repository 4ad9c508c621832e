"""Bad command lines and run folders: exit code 2 or 3 and one line, no traceback, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bad_lines import sample
from run_lines import fault_of

HERE = Path(__file__).parent
QUICK, ALL, BY_EXECUTABLE = 60, 1_000, 12


def _outcomes(folder: Path, count: int) -> list[dict[str, Any]]:
    """Return what came of a sample of lines; a process that dies of one goes on with the next in another one."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        command = [sys.executable, str(HERE / "run_lines.py"), str(folder), str(count), str(len(found))]
        child = subprocess.run(command, cwd=HERE, capture_output=True, text=True, errors="replace")
        lines = [json.loads(line) for line in child.stdout.splitlines() if line.endswith("}")]
        whole = [line for line in lines if "fault" in line]
        found += whole
        if len(found) < count:
            assert lines, f"the lines could not be begun: {child.stderr[-2_000:]}"
            about = {"case": len(found), "line": f"number {len(found)} of the sample", "code": child.returncode}
            found.append({**about, "verb": "", "fault": "hang or crash", "err": child.stderr[-500:]})
    return found


def _require_clean(outcomes: list[dict[str, Any]]) -> None:
    codes = Counter(outcome["code"] for outcome in outcomes)
    faults = [outcome for outcome in outcomes if outcome["fault"]]
    print(f"{len(outcomes)} bad command lines: {len(faults)} faults; exit codes {dict(codes)}")
    told = [f"{one['fault']}: entroreg {one['line']} -> {one['code']}: {one['err'][-300:]}" for one in faults]
    assert not told, "\n".join(told[:20])
    assert set(codes) == {2, 3}


def test_each_is_one_line(tmp_path: Path) -> None:
    _require_clean(_outcomes(tmp_path, QUICK))


@pytest.mark.slow
def test_each_of_a_thousand_is_one_line(tmp_path: Path) -> None:
    outcomes = _outcomes(tmp_path, ALL)
    print(dict(Counter(outcome["verb"] for outcome in outcomes)))
    _require_clean(outcomes)
    assert len(outcomes) == ALL


@pytest.mark.slow
def test_the_executable_says_the_same(tmp_path: Path) -> None:
    in_process = _outcomes(tmp_path, BY_EXECUTABLE)
    for case, outcome in zip(sample(BY_EXECUTABLE), in_process, strict=True):
        here = tmp_path / "again"
        here.mkdir()
        (here / "goods").symlink_to(tmp_path / "goods")
        if case.prepare is not None:
            case.prepare(here)
        if any("\0" in word for word in case.arguments):  # which no process can be given
            continue
        words = [os.fsencode(word) for word in case.arguments]
        executable = str(Path(sys.executable).with_name("entroreg")).encode()
        ran = subprocess.run([executable, *words], cwd=here, capture_output=True)
        assert ran.returncode == outcome["code"], ran.stderr
        assert ran.stderr.count(b"\n") == 1
        assert ran.stderr.startswith(b"entroreg: error: ")
        assert not ran.stdout
        shutil.rmtree(here)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({"code": 2}, ""),
        ({"code": 3}, ""),
        ({"code": None}, "traceback"),
        ({"code": 0}, "exit code"),
        ({"code": 1}, "exit code"),
        ({"lines": 2}, "more than one line"),
        ({"err": "Error: no"}, "more than one line"),
        ({"out": "half a result"}, "more than one line"),
        ({"left": ["out/train"]}, "files left"),
    ],
)
def test_what_is_wrong_is_seen(found: dict[str, Any], fault: str) -> None:
    right = {"code": 2, "lines": 1, "err": "entroreg: error: no", "out": "", "left": []}
    assert fault_of({**right, **found}) == fault


def test_a_sample_is_spread_over_verbs_and_faults() -> None:
    cases = sample(ALL)
    assert [case[:3] for case in cases] == [case[:3] for case in sample(ALL)]
    assert len(set(cases)) == ALL
    assert {case.verb for case in cases[:QUICK]} > {"train sac", "eval", "resume", "train mil"}
    assert len({(case.verb, case.about) for case in cases}) > 300
