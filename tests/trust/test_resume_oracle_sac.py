"""Trainings of SAC, DiscreteSAC and populations that were stopped or killed go on exactly, rollout by rollout."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from resume_cases_sac import CASES, Case, digest, train
from resume_oracle import Trace, compare

from entroreg.agents.engine import compiling

FAST = ("plain", "packed, ring wrapped", "Humanoid", "gSDE", "VecNormalize", "hindsight", "SeededEpisodes")
FAST += ("a buffer of one's own", "odd names and dtypes", "DiscreteSAC", "engine that starts later")


def _stop_of(case: Case, stop: int | str, whole: list[Trace]) -> int:
    """Return a stop as a step; "end" for the first end of an episode in training."""
    return stop if isinstance(stop, int) else next(row["step"] for row in whole[0].rows if row["step"] > 12)


def _interrupted(case: Case, at: int, folder: Path, *, killed: bool) -> None:
    """Train until a checkpoint at a step is written, and end there or, as if killed, a little later."""
    if killed:
        train(case.make(1), case.steps, folder, since=case.steps, every=at, end=at + 4)
    else:
        train(case.make(1), case.steps, folder, since=case.steps, stop=at)


def _assert_exact(
    name: str, stops: tuple[int | str, ...], folder: Path, ways: tuple[bool, ...] = (True, False)
) -> None:
    case = CASES[name]
    whole = train(case.make(1), case.steps, folder / "whole")
    for stop, killed in itertools.product(stops, ways):
        at, parts = _stop_of(case, stop, whole), folder / f"{stop}, {killed}"
        _interrupted(case, at, parts, killed=killed)
        resumed = train(case.make(2), case.steps, parts, resume=True)  # another seed: what is not loaded differs
        for one, other in zip(whole, resumed, strict=True):
            found = compare(one, other, at)
            way = "killed" if killed else "stopped"
            print(f"{name}, {way} at {at}: {found.steps} steps, {found.leaves} leaves, difference {found.largest}")
            assert found.steps > 3
            assert found.differing == {}


@pytest.mark.parametrize("name", FAST)
def test_it_goes_on_exactly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compile_update", lambda update, device: update)  # the same, but for the wait
    _assert_exact(name, CASES[name].stops[-1:], tmp_path, ways=(True,))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_goes_on_exactly_from_everywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compile_update", lambda update, device: update)
    _assert_exact(name, CASES[name].stops, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("engine")])
def test_it_goes_on_exactly_when_compiled(name: str, tmp_path: Path) -> None:
    _assert_exact(name, CASES[name].stops, tmp_path, ways=(True,))


def test_it_goes_on_exactly_in_another_process(tmp_path: Path) -> None:
    case = CASES["plain"]
    whole = train(case.make(1), case.steps, tmp_path / "whole", since=25)
    _interrupted(case, 25, tmp_path / "parts", killed=True)
    command = [sys.executable, Path(__file__).with_name("resume_cases_sac.py"), "plain", tmp_path / "parts"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == digest([trace.since(25) for trace in whole])
    assert found.stdout.strip() != digest([trace.since(26) for trace in whole])


def test_saving_disturbs_nothing(tmp_path: Path) -> None:
    case = CASES["plain"]
    whole = train(case.make(1), case.steps, tmp_path / "whole", since=35)
    saved = train(case.make(1), case.steps, tmp_path / "saved", since=35, every=3)
    assert digest(whole) == digest(saved)


def test_the_oracle_sees_a_difference_in_the_last_place(tmp_path: Path) -> None:
    case = CASES["plain"]
    whole = train(case.make(1), case.steps, tmp_path / "whole", since=28)[0].since(28)
    other = train(case.make(1), case.steps, tmp_path / "other", since=28)[0].since(28)
    assert compare(whole, other, 28).differing == {}
    _nudge(other.states[30])
    assert 0.0 < compare(whole, other, 28).largest < 1e-6


def _nudge(state: dict[str, Any]) -> None:
    """Change one number of a network by the least that there is."""
    path = next(path for path in state if path.startswith(".learned.policy.actor") and path.endswith("weight"))
    state[path].view("int32")[0, 0] += 1
