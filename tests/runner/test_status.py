"""Where the cells of a folder stand, how long the rest takes, and which commits they are of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from entroreg.benchmarks.bench import summaries_in
from entroreg.benchmarks.bench_folder import Launch
from entroreg.benchmarks.cells import Cell, write_failure, write_result
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.suites import sac
from entroreg.benchmarks.time_left import time_left

Say = Callable[..., None]


pytestmark = pytest.mark.usefixtures("threads_for_processes")


def _bench(toy: str, out: Path, *arguments: str) -> int:
    return main(["bench", "run", toy, "--out", str(out), *arguments])


def _bytes(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def unfinished(tmp_path: Path, toy: str, say: Say) -> Path:
    """Runs with cells that are done, failed, stopped and waiting."""
    say("quick,odd")
    assert _bench(toy, tmp_path) == 1
    shutil.rmtree(tmp_path / "toy" / "quick" / "t2" / "seed-0")
    (tmp_path / "toy" / "quick" / "t2" / "seed-1" / "result.json").unlink()
    for path in tmp_path.rglob("result.json"):
        started = datetime.fromisoformat(json.loads((path.parent / "meta.json").read_bytes())["started"])
        os.utime(path, (started.timestamp() + 100,) * 2)
    return tmp_path


def test_status_says_where_cells_stand(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["bench", "status", str(unfinished)]) == 1
    head = (
        "suite toybench.suite, preset smoke: 8 cells, 4 done; the rest takes about 7 min with 1 at once, by those"
    )
    assert capsys.readouterr().out.splitlines() == [
        f"{head} that are done",
        f"  {'t/1':32} quick                    2 of 2 seeds",
        f"  {'t/1':32} odd                      1 of 2 seeds   1 failed",
        "    seed 1: ZeroDivisionError: odd seed 1",
        f"  {'t2':32} quick                    0 of 2 seeds   1 waiting   1 stopped",
        f"  {'t2':32} odd                      1 of 2 seeds   1 failed",
        "    seed 1: ZeroDivisionError: odd seed 1",
    ]
    before = _bytes(unfinished)
    assert main(["bench", "status", str(unfinished), "--json"]) == 1
    (suite,) = json.loads(capsys.readouterr().out)
    assert suite["states"] == {"done": 4, "failed": 2, "waiting": 1, "stopped": 1}
    assert (suite["suite"], suite["preset"]) == ("toybench.suite", "smoke")
    assert suite["rows"][1] == {
        "task": "t/1",
        "method": "odd",
        "states": {"done": 1, "failed": 1},
        "errors": {"1": "ZeroDivisionError: odd seed 1"},
    }
    assert _bytes(unfinished) == before  # looking changes nothing
    for path in unfinished.rglob("failed.json"):
        path.unlink()
    assert main(["bench", "status", str(unfinished)]) == 0  # stopped is not failed


def test_status_of_what_is_no_folder_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        assert main(["bench", "status", str(path)]) == 2
        assert f"{path} must be a folder of results, got none: give the --out folder" in capsys.readouterr().err


def test_status_of_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "status", str(tmp_path)]) == 2
    assert "must" in capsys.readouterr().err


# --- estimates and commits


def _take(cell: Cell, out: Path, seconds: float) -> None:
    """Make a cell one that was done in so many seconds."""
    folder = cell.folder(out)
    folder.mkdir(parents=True)
    write_result(folder, {"score": 0.0})
    (folder / "meta.json").write_text(json.dumps({"started": datetime.fromtimestamp(1e9, UTC).isoformat()}))
    os.utime(folder / "result.json", (1e9 + seconds,) * 2)


def test_estimates(tmp_path: Path) -> None:
    launch, cells = Launch("sac", "small"), sac.cells("small")

    def left(jobs: int) -> str:
        return time_left(launch, cells, tmp_path, jobs, 20)

    head = "suite sac, preset small: 20 cells, "
    own = ", by the suite's own figure"
    assert left(1) == f"{head}0 done; the rest takes about 60 min with 1 at once{own}"
    assert left(3) == f"{head}0 done; the rest takes about 20 min with 3 at once{own}"
    by = ", by those that are done"
    _take(cells[0], tmp_path, 100)
    _take(cells[5], tmp_path, 300)
    assert left(2) == f"{head}2 done; the rest takes about 30 min with 2 at once{by}"
    # never more at once than there are cells left
    assert left(90) == f"{head}2 done; the rest takes about 3 min with 90 at once{by}"
    _take(cells[6], tmp_path, 2000)
    assert left(1) == f"{head}3 done; the rest takes about 3.8 hours with 1 at once{by}"
    for cell in cells:
        if not cell.folder(tmp_path).exists():
            _take(cell, tmp_path, 1)
    assert left(1) == f"{head}20 done"
    unknown = time_left(Launch("toybench.suite", "paper"), cells, tmp_path / "none", 1, 20)
    assert unknown == (
        "suite toybench.suite, preset paper: 20 cells, 0 done; "
        "how long they take is not known before the first is done"
    )


def test_an_estimate_of_some_cells_is_a_share_of_the_whole(tmp_path: Path) -> None:
    found = time_left(Launch("sac", "small", whole=False), sac.cells("small")[:5], tmp_path, 1, 20)
    assert "the rest takes about 15 min with 1 at once" in found


def test_commits_are_counted_by_cell(tmp_path: Path, toy: str, say: Say) -> None:
    say("quick,odd", seeds=3)
    assert _bench(toy, tmp_path) == 1
    made = {
        "quick/t%2F1/seed-0": ("abc", False),
        "quick/t%2F1/seed-1": ("abc", True),
        "quick/t%2F1/seed-2": (None, None),
        "quick/t2/seed-0": ("abc", False),
        "odd/t2/seed-1": ("failed", False),
    }
    for path in tmp_path.rglob("meta.json"):
        commit, dirty = made.get(path.parent.relative_to(tmp_path / "toy").as_posix(), ("def", False))
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "commit": commit, "dirty": dirty}))
    (summary,) = summaries_in(tmp_path).values()
    assert summary["commits"] == {"abc": 2, "abc and changes": 1, "unknown": 1, "def": 6}


def test_a_cell_without_a_result_is_failed_whatever_it_left(tmp_path: Path, toy: str) -> None:
    assert _bench(toy, tmp_path, "--seeds", "1") == 0
    folder = tmp_path / "toy" / "quick" / "t2" / "seed-0"
    write_failure(folder, "worse luck")
    (summary,) = summaries_in(tmp_path).values()
    assert [(row["task"], row["error"]) for row in summary["failed"]] == [("t2", "worse luck")]
    assert main(["bench", "status", str(tmp_path)]) == 1
    assert main(["resume", str(tmp_path)]) == 0
    assert not (folder / "failed.json").exists()
