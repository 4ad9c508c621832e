"""A suite's folder: which cells are asked for, what a summary counts, which launches are refused, how it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks.bench import as_text, run_suite, summaries_in
from entroreg.benchmarks.bench_folder import Launch, read_launch
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.selection import Selection

Say = Callable[..., None]
Done = list[tuple[str, str, int]]

pytestmark = pytest.mark.usefixtures("threads_for_processes")


class Interrupted(Executor):
    """Runs each call at once, here; Ctrl-C comes after some of them."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _bench(toy: str, out: Path, *arguments: str) -> int:
    return main(["bench", "run", toy, "--out", str(out), *arguments])


def _done(out: Path) -> Done:
    """Task, method and seed of the cells in the summary."""
    summary = json.loads((out / "toy" / "summary.json").read_bytes())
    return [(cell["task"], cell["method"], cell["seed"]) for cell in summary["cells"]]


def _ran(out: Path) -> set[str]:
    """Folders of the cells that began."""
    return {path.parent.relative_to(out / "toy").as_posix() for path in out.rglob("pid")}


def _bytes(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("flags", "ran"),
    [
        (["--task", "t2"], {f"{m}/t2/seed-{s}" for m in ("quick", "brief") for s in (0, 1)}),
        (["--method", "brief"], {f"brief/{t}/seed-{s}" for t in ("t%2F1", "t2") for s in (0, 1)}),
        (["--seed", "1"], {f"{m}/{t}/seed-1" for m in ("quick", "brief") for t in ("t%2F1", "t2")}),
        (["--seed", "0", "4", "--task", "t/1", "--method", "quick"], {"quick/t%2F1/seed-0", "quick/t%2F1/seed-4"}),
        (["--seeds", "4", "--seed", "3", "--task", "t2", "--method", "quick"], {"quick/t2/seed-3"}),
        (["--task", "t2", "t/1", "--method", "brief", "--seed", "0"], {"brief/t%2F1/seed-0", "brief/t2/seed-0"}),
    ],
)
def test_only_what_is_asked_for_runs_and_counts(
    tmp_path: Path, toy: str, say: Say, flags: list[str], ran: set[str]
) -> None:
    say("quick,brief")
    assert _bench(toy, tmp_path, *flags) == 0
    assert _ran(tmp_path) == ran
    summary = json.loads((tmp_path / "toy" / "summary.json").read_bytes())
    assert len(summary["cells"]) == len(ran)
    assert summary["failed"] == []
    launch = read_launch(tmp_path / "toy")
    assert launch is not None
    assert launch.whole is False


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "t3"], "unknown task 't3': did you mean 't2'?"),
        (["--task", "t2", "cart"], "unknown task 'cart': there is t/1, t2"),
        (["--method", "quik"], "unknown method 'quik': did you mean 'quick'?"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--seeds", "0"], "seeds must be at least 1 and at most 10000, got 0"),
        (["--seeds", "-3"], "seeds must be at least 1 and at most 10000, got -3"),
    ],
)
def test_what_does_not_exist_is_refused(
    tmp_path: Path, toy: str, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert _bench(toy, tmp_path / "runs", *flags) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"entroreg: error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_combination_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _bench("sac", tmp_path / "runs", "--task", "CartPole-v1", "--method", "sb3-sac") == 2
    assert "no cell has this task, method and seed" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seeds", [1, 3])
def test_all_of_one_seed_run_together(
    tmp_path: Path, toy: str, say: Say, capsys: pytest.CaptureFixture[str], seeds: int
) -> None:
    say("quick,brief")
    assert _bench(toy, tmp_path, "--seeds", str(seeds)) == 0
    order = [f"{m} on {t}, seed {s}" for s in range(seeds) for t in ("t/1", "t2") for m in ("quick", "brief")]
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert told == [f"[{i}/{len(order)}] done    {cell}" for i, cell in enumerate(order, 1)]
    assert read_launch(tmp_path / "toy") == Launch(toy, "smoke", seeds, whole=True)


def test_a_summary_after_selections_is_of_what_was_chosen(tmp_path: Path, toy: str) -> None:
    assert _bench(toy, tmp_path, "--task", "t2", "--seed", "1") == 0
    assert _done(tmp_path) == [("t2", "quick", 1)]
    assert _bench(toy, tmp_path, "--task", "t/1", "--seed", "0") == 0
    assert _done(tmp_path) == [("t2", "quick", 1), ("t/1", "quick", 0)]  # as they were asked for
    (summary,) = summaries_in(tmp_path).values()
    assert [(row["done"], row["seeds"]) for rows in summary["tasks"].values() for row in rows] == [(1, 1), (1, 1)]
    assert _bench(toy, tmp_path) == 0  # and after a whole launch of everything
    assert len(_done(tmp_path)) == 4
    chosen = (("t2", "quick", 1), ("t/1", "quick", 0))
    assert read_launch(tmp_path / "toy") == Launch(toy, "smoke", None, whole=True, chosen=chosen)
    assert _bench(toy, tmp_path, "--task", "t2") == 0  # which it remains
    assert len(_done(tmp_path)) == 4


def test_seeds_beyond_the_presets_stay_in_the_summary(tmp_path: Path, toy: str) -> None:
    assert _bench(toy, tmp_path, "--task", "t2", "--seed", "7") == 0
    assert _bench(toy, tmp_path, "--task", "t/1", "--seed", "0") == 0
    assert sorted(_done(tmp_path)) == [("t/1", "quick", 0), ("t2", "quick", 7)]


def test_seeds_beyond_those_of_a_whole_launch_are_summarised(tmp_path: Path, toy: str) -> None:
    assert _bench(toy, tmp_path) == 0
    assert _bench(toy, tmp_path, "--task", "t2", "--seed", "7") == 0
    assert ("t2", "quick", 7) in _done(tmp_path)


def test_a_whole_launch_that_was_broken_off_counts_every_cell(
    tmp_path: Path, toy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_suite(toy, "smoke", 1, tmp_path, start=lambda _jobs: Interrupted(1))
    (summary,) = summaries_in(tmp_path).values()
    assert len(summary["cells"]) == 1
    assert [row["seed"] for row in summary["failed"]] == [1, 0, 1]
    text = as_text(summary).splitlines()
    assert text[1].split() == ["t/1"]
    assert text[2].startswith("  quick                    1 of 2 seeds   ")
    assert text[4] == "  quick                    0 of 2 seeds"
    assert text[5] == "not done: 3 cells; run again to go on"
    assert text[7] == f"  {tmp_path / 'toy/quick/t2/seed-0'}"
    with pytest.raises(KeyboardInterrupt):  # a selection in it makes it no smaller
        run_suite(toy, "smoke", 1, tmp_path, only=Selection(task=("t2",)), start=lambda _jobs: Interrupted(0))
    assert main(["bench", "status", str(tmp_path)]) == 0
    assert "4 cells, 1 done" in capsys.readouterr().out


def test_a_selection_that_was_broken_off_counts_all_that_was_chosen(tmp_path: Path, toy: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_suite(toy, "smoke", 1, tmp_path, only=Selection(task=("t2",)), start=lambda _jobs: Interrupted(1))
    (summary,) = summaries_in(tmp_path).values()
    assert summary["tasks"].keys() == {"t2"}
    assert [(cell["seed"], cell["error"]) for cell in summary["failed"]] == [(1, None)]
    with pytest.raises(KeyboardInterrupt):  # of everything, whose cells all count from now on
        run_suite(toy, "smoke", 1, tmp_path, start=lambda _jobs: Interrupted(0))
    (summary,) = summaries_in(tmp_path).values()
    assert len(summary["failed"]) == 3


_GOOD = {"format": 1, "suite": "toybench.suite", "preset": "smoke", "seeds": None, "whole": True}


@pytest.mark.parametrize(
    ("content", "message", "readable"),
    [
        (json.dumps({**_GOOD, "format": 2}), "bench.json must be of format 1, got 2: another version of", False),
        (json.dumps({"suite": "toybench.suite"}), "bench.json must be of format 1, got None: another", False),
        ("[1]", "bench.json must be of format 1, got [1]: another version of entroreg wrote it", False),
        ("{", "bench.json must be written by 'entroreg bench run', got Expecting property name", False),
        ("\xff", "bench.json must be written by 'entroreg bench run', got ", False),
        ('{"format": 1}', "bench.json must be written by 'entroreg bench run', got {'format': 1}", False),
        (json.dumps({**_GOOD, "more": 1}), "bench.json must be written by 'entroreg bench run', got {", False),
        (
            json.dumps({**_GOOD, "preset": "small"}),
            "with preset smoke, got toybench.suite with small: choose",
            True,
        ),
        (
            json.dumps({**_GOOD, "suite": "sac"}),
            "must hold suite toybench.suite with preset smoke, got sac with",
            True,
        ),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, toy: str, capsys: pytest.CaptureFixture[str], content: str, message: str, readable: bool
) -> None:
    assert _bench(toy, tmp_path / "runs", "--seeds", "1") == 0
    (tmp_path / "runs" / "toy" / "bench.json").write_bytes(content.encode("latin-1"))
    before = _bytes(tmp_path / "runs")
    capsys.readouterr()
    verbs = [["bench", "run", toy, "--seeds", "2", "--out"]]
    if not readable:
        verbs += [["bench", "status"], ["resume"], ["report"], ["compare", str(tmp_path)]]
    for verb in verbs:
        assert main([*verb, str(tmp_path / "runs")]) == 2, verb
        if verb[0] != "compare":
            assert message in capsys.readouterr().err
        assert _bytes(tmp_path / "runs") == before


def test_a_preset_that_is_none_is_refused(tmp_path: Path, toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _bench(toy, tmp_path / "runs", "--preset", "huge") == 2
    assert "huge" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
