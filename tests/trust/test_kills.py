"""The harness that kills trainings: what is sound comes out sound, and what is not is seen."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_trainings import STATE, toy

from entroreg.benchmarks.suites.trust import KILLED, totals_of
from entroreg.benchmarks.trust.children import start_child, start_forking
from entroreg.benchmarks.trust.imports import IMPORTS
from entroreg.benchmarks.trust.kills import KillPlan, killed_runs

KILLS = 8


@pytest.fixture(scope="module", autouse=True)
def _forking() -> None:
    start_forking(["pytest", "toy_trainings"])


def _killed(kind: str, folder: Path, aimed: float) -> dict[str, Any]:
    return killed_runs(toy(kind), KillPlan(KILLS, 3.0, aimed), folder, np.random.default_rng(0))


def test_a_sound_training_is_found_sound(tmp_path: Path) -> None:
    found = _killed("sound", tmp_path, aimed=1.0)
    totals = totals_of(found)
    assert found["undisturbed"]["repeats"] is True
    assert found["undisturbed"]["parts"] == [STATE]
    assert all(seconds > 0.3 for seconds in found["undisturbed"]["seconds"])
    assert found["undisturbed"]["save_seconds"] > 0.04
    assert totals["kills"] == totals["resumed"] == len(found["kills"]) == KILLS
    assert all(kill["aimed"] for kill in found["kills"])
    assert totals["inside_save"] >= 3
    assert totals["identical"] == totals["runs"] == len(found["runs"])
    assert (totals["corrupt"], totals["mismatched"], totals["torn"], totals["begun_anew"]) == (0, 0, 0, 0)
    for number, one in enumerate(found["runs"]):
        assert one["kills"] == sum(kill["run"] == number for kill in found["kills"])
    assert not list(tmp_path.glob("run-*/"))  # nothing to look into


def test_a_save_that_tears_is_seen_and_costs_the_run(tmp_path: Path) -> None:
    found = _killed("tearing", tmp_path, aimed=1.0)
    corrupt = [kill for kill in found["kills"] if kill["corrupt"]]
    assert corrupt
    assert all(kill["inside_save"] and kill["corrupt"] == [STATE] for kill in corrupt)
    assert all(kill["resumed"] == (not kill["corrupt"]) for kill in found["kills"])
    totals = totals_of(found)
    assert totals["begun_anew"] == totals["corrupt"] == totals["kills"] - totals["resumed"]


def test_a_training_that_forgets_ends_otherwise(tmp_path: Path) -> None:
    found = _killed("forgetful", tmp_path, aimed=0.0)
    assert found["undisturbed"]["repeats"] is True
    assert not any(kill["aimed"] for kill in found["kills"])
    totals = totals_of(found)
    assert totals["resumed"] == totals["kills"] == KILLS
    assert totals["identical"] < totals["runs"]
    assert all(one["differs"] in ([], [STATE]) for one in found["runs"])
    assert len(list(tmp_path.glob("run-*/"))) == 1  # the first of them, to look into


def test_what_a_killed_save_left_is_not_taken_for_the_next(tmp_path: Path) -> None:
    leaving = replace(toy("sound"), saves=_left_behind)
    found = killed_runs(leaving, KillPlan(12, 4.0, 0.0), tmp_path, np.random.default_rng(0))
    inside = [
        [kill["inside_save"] for kill in found["kills"] if kill["run"] == run] for run in range(len(found["runs"]))
    ]
    assert all(sum(of_run) <= 1 for of_run in inside)  # the kill by which it came to be there
    assert any(of_run.index(True) < len(of_run) - 1 for of_run in inside if True in of_run)


def _left_behind(folder: Path) -> frozenset[str]:
    if folder.name.startswith("undisturbed"):
        return toy("sound").saves(folder)
    return frozenset({"left"} if (folder / STATE).exists() else ())


def test_a_file_that_stays_corrupt_counts_once() -> None:
    found = [(0, ["a"]), (0, ["a"]), (0, ["a", "b"]), (0, []), (0, ["a"]), (1, ["a"]), (1, ["a"])]
    same = {"inside_save": False, "mismatched": False, "torn": False}
    kills = [{"run": run, "corrupt": corrupt, "resumed": run == 0, **same} for run, corrupt in found]
    runs = [{"kills": 5, "begun_anew": 0, "differs": []}, {"kills": 2, "begun_anew": 2, "differs": ["a"]}]
    totals = totals_of({"kills": kills, "runs": [*runs, {"kills": 0, "begun_anew": 0, "differs": ["a"]}]})
    assert totals["corrupt"] == 5
    assert (totals["kills"], totals["runs"], totals["identical"], totals["begun_anew"]) == (7, 2, 1, 2)


def test_a_training_that_never_saves_is_an_error(tmp_path: Path) -> None:
    never = replace(toy("sound"), saves=_no_saves)
    with pytest.raises(RuntimeError, match=r"a training must save .*, got none seen in .*undisturbed-0"):
        killed_runs(never, KillPlan(1, 3.0, 0.5), tmp_path, np.random.default_rng(0))


def _no_saves(_folder: Path) -> frozenset[str]:
    return frozenset()


def test_a_training_that_fails_undisturbed_is_an_error(tmp_path: Path) -> None:
    failing = replace(toy("sound"), start=_fail)
    with pytest.raises(RuntimeError, match=r"undisturbed training must end with exit code 0, got 3: see .*-0\.log"):
        killed_runs(failing, KillPlan(1, 4.0, 0.5), tmp_path, np.random.default_rng(0))
    assert (tmp_path / "undisturbed-0.log").read_text() == "why it failed\n"


def _fail(_folder: Path) -> int:
    print("why it failed", flush=True)
    return 3


def test_a_child_does_not_outlive_its_block(tmp_path: Path) -> None:
    with start_child(_sleep, tmp_path / "run") as child:
        child.wait(0.3)
        assert child.runs
        assert not child.succeeded
    with pytest.raises(ValueError, match="process object is closed"):
        _ = child.runs


def _sleep(folder: Path) -> int:
    import time

    time.sleep(60)
    return 0


def test_all_that_is_imported_beforehand_exists() -> None:
    assert list(IMPORTS) == list(KILLED)
    for name in {name for names in IMPORTS.values() for name in names}:
        places = [Path(folder, *name.split(".")) for folder in sys.path]  # find_spec would import its parents
        assert any(place.is_dir() or place.with_suffix(".py").exists() for place in places), name
