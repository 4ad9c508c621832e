"""``entroreg train rlvr``: a run, its evaluation, a stop, and bad input."""

from __future__ import annotations

import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from entroreg.agents.rlvr import warm_up
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.rlvr import training

SMALL = ("--digits", "1", "--warm-up", "0.1", "--prompts", "8", "--samples", "4", "--threads", "1")
FOLDER = Path("runs/train/rlvr-kl-cov/addition-1/seed-2")


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*more: str) -> int:
    return main(["train", "rlvr", "--control", "kl-cov", "--steps", "5", "--seed", "2", *SMALL, *more])


def test_a_run_leaves_everything_and_eval_repeats_it(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--evaluate-every", "2") == 0
    out, err = capsys.readouterr()
    result = json.loads((FOLDER / "result.json").read_text())
    assert out.splitlines()[-1].split()[-1] == str(FOLDER / "result.json")
    assert f"pass@1 {result['final']['pass_at_1']:.3f}" in out
    assert "warming up until 10%" in err
    assert "5/5" in err
    assert result["warm_up"]["accuracy"] >= 0.1
    assert result["score"] == result["final"]["pass_at_1"]
    assert [found["step"] for found in result["evaluations"]] == [2, 4, 5]
    rows = [json.loads(line) for line in (FOLDER / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert result["curve"][0]["entropy"] == pytest.approx(sum(row["entropy"] for row in rows) / 5, abs=1e-6)
    for picture in ("learning_curve.png", "entropy_monitor.png"):
        assert (FOLDER / picture).read_bytes()[:4] == b"\x89PNG"
    events = EventAccumulator(str(FOLDER / "tb"))
    events.Reload()
    written = {event.step: event.value for event in events.Scalars("entropy/measured_change")}
    assert written == {
        row["step"]: pytest.approx(row["entropy"] - before["entropy"], abs=1e-6) for before, row in pairwise(rows)
    }

    assert main(["eval", str(FOLDER), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result["final"]
    assert main(["eval", str(FOLDER), "--episodes", "5"]) == 0
    assert "pass@8" in capsys.readouterr().out

    before = (FOLDER / "result.json").read_text()
    assert train() == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert (FOLDER / "result.json").read_text() == before


def test_sigterm_saves_and_says_so(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = training.GRPO.step

    def step(trainer: Any) -> Any:
        if trainer.steps == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return taken(trainer)

    monkeypatch.setattr(training.GRPO, "step", step)
    assert train() == 75
    assert str(FOLDER / "checkpoints" / "last") in capsys.readouterr().err
    assert not (FOLDER / "result.json").exists()
    assert len((FOLDER / "metrics.jsonl").read_text().splitlines()) == 3
    assert main(["eval", str(FOLDER), "--episodes", "5"]) == 0
    assert train() == 2
    assert "holds the checkpoint of a run that was stopped" in capsys.readouterr().err


def test_a_stop_in_the_warm_up_leaves_nothing(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return warm_up.warm_up(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(training, "warm_up", interrupted)
        assert train() == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped in the warm-up"
    assert not (FOLDER / "result.json").exists()
    assert train("--steps", "1") == 0  # nothing is in the way of another try


def test_a_warm_up_that_fails_is_one_line(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "warm_up", lambda *a, **k: warm_up.warm_up(*a, **k, most_steps=1))
    assert train() == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("entroreg: error: the warm-up must reach an accuracy of 0.1, got 0.000 after 1 steps")
    assert "--warm-up" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--control", "kl-covv"), "kl-cov"),
        (("--samples", "1"), "samples must be at least 2, got 1"),
        (("--prompts", "10"), "prompts must be a multiple of updates=4, got 10"),
        (("--warm-up", "1"), "warm_up must be in (0, 1), got 1.0"),
        (("--digits", "0"), "digits must be in [1, 9], got 0"),
        (("--target", "-1"), "target must be finite and above 0, got -1.0"),
        (("--steps", "0"), "steps must be at least 1, got 0"),
    ],
)
def test_bad_options_are_one_line(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, str], message: str
) -> None:
    assert main(["train", "rlvr", *flags]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert message in error[0]


@pytest.mark.parametrize("broken", ["missing", "other", "unfinished"])
def test_eval_of_what_is_no_such_run(broken: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = in_tmp / "run"
    folder.mkdir()
    if broken == "other":
        (folder / "config.json").write_text('{"kind": "rlvr", "control": "none"}')
    if broken == "unfinished":
        (folder / "config.json").write_text('{"kind": "rlvr", "control": "none", "out": "runs"}')
    assert main(["eval", str(folder)]) == 2
    expected = {
        "missing": "must be a run folder with config.json",
        "other": "must be written by 'entroreg train', got something else",
        "unfinished": "has no checkpoint yet",
    }
    assert expected[broken] in capsys.readouterr().err
