"""Damaged and malicious zips and replay buffers: none runs code, hangs, crashes or takes memory without bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import Report, load_cases, require_harmless
from zip_damage import DAMAGES
from zip_forgeries import FORGERIES, changed_pickle, harmful_pickle

SCRIPT = "load_zips.py"
DOCUMENTED = {"same", "returned", "entroreg.agents.safe_zip.errors.UnsafeZipError"}


def _is_documented(report: Report) -> bool:
    return report["outcome"] in DOCUMENTED


def test_60_hostile_zips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_harmless("zips and replay buffers", load_cases(tmp_path, 0, 60, SCRIPT), _is_documented, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_5000_hostile_zips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = load_cases(tmp_path, 1000, 5000, SCRIPT)
    assert len(reports) == 5000
    every = {change.__name__ for change in (*DAMAGES, *FORGERIES, changed_pickle, harmful_pickle)}
    assert {change for report in reports for change in report["changes"]} == every
    require_harmless("zips and replay buffers", reports, _is_documented, capsys)


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
    reports = load_cases(tmp_path, 0, 150, "-c", _TRUSTING)
    assert len(reports) == 150
    assert sum(report.get("executed", False) for report in reports) >= 5
    assert sum(not _is_documented(report) for report in reports) >= 30
