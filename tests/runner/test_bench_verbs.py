"""``bench run all``, suites of one's own, and ``resume`` of benchmark folders."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks import bench, local_processes, suites
from entroreg.benchmarks.bench import run_suite
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.selection import Selection
from entroreg.benchmarks.signals import Terminated

_SECOND = """
from dataclasses import replace
from toybench import suite

MOST_JOBS = 1
run = suite.run


def cells(preset):
    return [replace(cell, suite="second") for cell in suite.cells(preset)[:2]]
"""


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Threads stand in for processes; how many cells may run at once, for each launch."""
    asked: list[int] = []

    def start(number: int, _threads: int | None = None) -> Executor:
        asked.append(number)
        return ThreadPoolExecutor(number)

    monkeypatch.setattr(local_processes, "local_executor", start)
    return asked


@pytest.fixture
def both(toy: str, tmp_path: Path, jobs: list[int], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two suites, which are all there are; the second one's cells run one after the other."""
    (tmp_path / "code" / "toybench" / "second.py").write_text(_SECOND)
    names = (toy, "toybench.second")
    monkeypatch.delitem(sys.modules, names[1], raising=False)
    for module in (suites, bench):
        monkeypatch.setattr(module, "SUITES", dict.fromkeys(names, "a toy"))
    monkeypatch.setattr(bench, "as_text", lambda summary: f"summary of {summary['suite']}")
    return names


def _out(tmp_path: Path) -> list[str]:
    return ["--out", str(tmp_path / "runs")]


# --- all suites


def test_all_suites_run_one_after_the_other(
    tmp_path: Path, both: tuple[str, str], jobs: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "run", "all", "--jobs", "2", *_out(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["summary of toybench.suite", "summary of toybench.second"]
    assert jobs == [2, 1]
    assert [line.split()[0] for line in err.splitlines() if line.startswith("[")] == [
        *(f"[{i}/4]" for i in range(1, 5)),
        *(f"[{i}/2]" for i in range(1, 3)),
    ]
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 6
    assert main(["bench", "run", "all", "--json", *_out(tmp_path)]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["suite"], second["suite"], len(second["cells"])) == (*both, 2)


def test_a_failure_in_one_of_all_suites_is_told(
    tmp_path: Path, both: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_METHODS", "odd")
    assert main(["bench", "run", "all", *_out(tmp_path)]) == 1
    done = {path.parent.relative_to(tmp_path / "runs").as_posix() for path in tmp_path.rglob("result.json")}
    assert done >= {"toy/odd/t%2F1/seed-0", "second/odd/t%2F1/seed-0"}
    (tmp_path / "runs" / "second" / "odd" / "t%2F1" / "seed-1" / "result.json").write_text('{"score": 1.0}')
    shutil.rmtree(tmp_path / "runs" / "toy" / "odd" / "t%2F1" / "seed-1")
    # the first one's code counts, not the last one's
    assert main(["bench", "run", "all", *_out(tmp_path)]) == 1


def test_a_suite_that_cannot_run_does_not_keep_the_others_from_it(
    tmp_path: Path, both: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    (tmp_path / "runs" / "toy" / "bench.json").write_text('{"format": 99}')
    assert main(["bench", "run", "all", "--json", *_out(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "entroreg: error: " in err
    assert "must be of format 1, got 99" in err
    assert [summary["suite"] for summary in json.loads(out)] == [both[1]]
    assert main(["bench", "run", "all", "--task", "t/1", *_out(tmp_path)]) == 2
    assert "task, method and seed are of one suite: name it in place of all" in capsys.readouterr().err


_OWN = """\
'''A suite of one's own.

And more.
'''
from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.readings import Quantity, of_seed

def cells(preset):
    return [Cell("own", preset, "t", method, seed) for method in ("a", "bb") for seed in range(3)]

def run(cell, folder):
    print("a line of the cell")
    write_result(folder, {"length": float(len(cell.method) + cell.seed)})

def readings(cell):
    return of_seed(cell, {Quantity("length", "m"): cell["length"]})
"""


def test_a_suite_of_ones_own_from_its_cells_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "lengths.py").write_text(_OWN)
    monkeypatch.chdir(tmp_path)  # where it is found, as by python -m
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["bench", "run", "mine.lengths", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 6  # what cells print goes to their logs
    assert (tmp_path / "runs/own/a/t/seed-0/stderr.log").read_text() == "a line of the cell\n"
    assert main(["bench", "run", "mine.lengths"]) == 0
    assert "bb                       length: 3 of 3 seeds   3 m" in capsys.readouterr().out
    assert main(["report", "runs"]) == 0
    report = (tmp_path / "runs" / "report.md").read_text()
    assert "A suite of one's own." in report
    assert "And more" not in report
    assert "**t**, length: **bb** 3" in report
    assert main(["compare", "runs", "runs", "--fail-on", "regression"]) == 0
    (tmp_path / "mine" / "lengths.py").write_text(_OWN + "def as_text(summary): return 'IN OUR WORDS'")
    monkeypatch.delitem(sys.modules, "mine.lengths")
    assert main(["bench", "run", "mine.lengths"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "IN OUR WORDS"


def test_named_alone_a_suite_refuses_more_jobs_than_it_allows(
    tmp_path: Path, both: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "run", both[1], "--jobs", "2", *_out(tmp_path)]) == 2
    assert (
        "jobs must be at most 1 for suite toybench.second, got 2: they slow each other" in capsys.readouterr().err
    )
    assert not (tmp_path / "runs").exists()


# --- a suite of one's own


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (None, "toybench.none", "suite toybench.none must be a module that can be imported, got: No module named"),
        (None, "toybenc.suite", "suite toybenc.suite must be a module that can be imported, got: No module named"),
        (
            "import no_such_thing",
            "toybench.own",
            "must be a module that can be imported, got: No module named 'no_su",
        ),
        ("def cells(preset): ...", "toybench.own", "must have cells(preset) and run(cell, folder), got a module w"),
        ("run = print", "toybench.own", "must have cells(preset) and run(cell, folder), got a module without"),
        (
            "run = print\ndef cells(preset): return {'small': []}[preset]",
            "toybench.own",
            "suite toybench.own has no preset 'smoke'",
        ),
        pytest.param(
            None,
            ".suite",
            "must be a module that can be imported",
        ),
        pytest.param(
            "run = print\ndef cells(preset): return []",
            "toybench.own",
            "toybench.own",
        ),
        pytest.param(
            "cells = = 1",
            "toybench.own",
            "must be a module that can be imported",
        ),
    ],
)
def test_a_suite_that_is_none(
    tmp_path: Path, toy: str, capsys: pytest.CaptureFixture[str], code: str | None, name: str, message: str
) -> None:
    if code is not None:
        (tmp_path / "code" / "toybench" / "own.py").write_text(code)
    sys.modules.pop("toybench.own", None)
    assert main(["bench", "run", name, *_out(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_unknown_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "run", "sac-spead", *_out(tmp_path)]) == 2
    assert "unknown suite 'sac-spead': did you mean 'sac-speed'" in capsys.readouterr().err


# --- resume of a benchmark folder


def test_every_suite_of_a_folder_goes_on(
    tmp_path: Path,
    both: tuple[str, str],
    jobs: list[int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_METHODS", "odd")
    assert main(["bench", "run", "all", "--seeds", "3", *_out(tmp_path)]) == 1
    runs = tmp_path / "runs"
    stays = runs / "toy/odd/t2/seed-0/result.json"
    before = stays.stat().st_mtime_ns
    shutil.rmtree(runs / "toy/odd/t2/seed-2")
    shutil.rmtree(runs / "second/odd/t%2F1/seed-2")
    capsys.readouterr()
    shutil.move(runs, tmp_path / "elsewhere")
    assert main(["resume", str(tmp_path / "elsewhere"), "--json"]) == 1  # the odd seed fails again
    second, first = json.loads(capsys.readouterr().out)
    assert (first["suite"], second["suite"]) == both
    assert [(cell["seed"], cell["error"]) for cell in first["failed"]] == [
        (1, "ZeroDivisionError: odd seed 1"),
        (1, "ZeroDivisionError: odd seed 1"),
    ]
    assert [cell["seed"] for cell in second["cells"]] == [0, 2]
    assert not runs.exists()
    assert (tmp_path / "elsewhere/toy/odd/t2/seed-0/result.json").stat().st_mtime_ns == before
    assert jobs[2:] == [1, 1]


def test_told_to_stop_no_further_suite_goes_on(
    tmp_path: Path, both: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bench", "run", "all", *_out(tmp_path)]) == 0
    for path in tmp_path.rglob("result.json"):
        path.unlink()
    calls = []

    class Stopping(ThreadPoolExecutor):
        def submit(self, *_arguments: Any, **_options: Any) -> Any:
            calls.append(1)
            raise Terminated

    monkeypatch.setattr(local_processes, "local_executor", lambda jobs, _threads=None: Stopping(jobs))
    assert main(["resume", str(tmp_path / "runs")]) == 75
    assert len(calls) == 1


def test_a_selection_goes_on_as_one(tmp_path: Path, toy: str, jobs: list[int]) -> None:
    run_suite(toy, "smoke", 1, tmp_path / "runs", only=Selection(task=("t2",), seed=(0,)), start=ThreadPoolExecutor)
    (tmp_path / "runs/toy/quick/t2/seed-0/result.json").unlink()
    assert main(["resume", str(tmp_path / "runs")]) == 0
    assert [path.parent.parent.name for path in (tmp_path / "runs").rglob("result.json")] == ["t2"]
