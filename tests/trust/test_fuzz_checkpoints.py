"""Damaged and malicious checkpoint folders: none runs code, hangs, crashes or takes memory without bound."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
from fuzzing import Report, load_cases, require_harmless

SCRIPT = "load_checkpoints.py"
CHECKPOINT_ERROR = "entroreg.checkpoint.errors.CheckpointError"


def _is_documented(report: Report) -> bool:
    if report["outcome"] == "builtins.ValueError":
        return " must have " in report["message"]
    return report["outcome"] in {"same", "returned", CHECKPOINT_ERROR, "builtins.FileNotFoundError"}


def test_200_hostile_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_harmless("checkpoint folders", load_cases(tmp_path, 0, 200, SCRIPT), _is_documented, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_5000_hostile_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = load_cases(tmp_path, 1000, 5000, SCRIPT)
    assert len(reports) == 5000
    require_harmless("checkpoint folders", reports, _is_documented, capsys)


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
    reports = load_cases(tmp_path, 0, 100, "-c", _TRUSTING)
    assert len(reports) == 100
    outcomes = collections.Counter(report["outcome"] for report in reports)
    assert sum(report.get("executed", False) for report in reports) >= 3
    assert outcomes["hang"] >= 2  # pipes
    assert outcomes["builtins.MemoryError"] >= 1  # files with holes
    assert sum(not _is_documented(report) for report in reports) >= 10
