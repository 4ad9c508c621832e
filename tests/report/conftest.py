"""The committed summaries, a report of them, and summaries of a suite made for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entroreg.benchmarks.report_page import write_report

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


class Report(NamedTuple):
    """What was reported and where."""

    summaries: list[dict[str, Any]]
    titles: list[str]
    files: dict[str, Path]


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of all committed summaries with all committed pictures."""
    paths = sorted(RESULTS.glob("*.json"))
    summaries, titles = [json.loads(path.read_bytes()) for path in paths], [path.stem for path in paths]
    files = write_report(summaries, sorted(RESULTS.glob("*.png")), tmp_path_factory.mktemp("report"), titles)
    return Report(summaries, titles, files)


def made_cell(task: str, method: str, seed: int, score: float, **others: Any) -> dict[str, Any]:
    """A cell of suite sac."""
    return {"task": task, "method": method, "seed": seed, "score": score, **others}


def made_summary(cells: list[dict[str, Any]], failed: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """A summary of suite sac."""
    provenance = {"commit": "abc", "command": ["entroreg", "bench"], "packages": {"torch": "2.9"}, "gpu": None}
    return {"suite": "sac", "preset": "small", "provenance": provenance, "cells": cells, "failed": list(failed)}


def lost_cell(task: str, method: str, seed: int, error: str | None) -> dict[str, Any]:
    """A cell without a result."""
    return {"task": task, "method": method, "seed": seed, "folder": "runs/x", "error": error}
