"""``entroreg train rlvr``: a run, its evaluation, a stop, and bad input."""

from __future__ import annotations

import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from entroreg.agents.rlvr import warm_up
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.rlvr import training
from entroreg.checkpoint import load_checkpoint, save_checkpoint

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
    assert train("--resume", "--seed", "2", "--target", "0.4") == 2
    assert "target must be 0.5 to go on with the run" in capsys.readouterr().err


def _untimed(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    return {**result, "train_seconds": 0, "sampling_share": 0}


def _stop_in(monkeypatch: pytest.MonkeyPatch, name: str, call: int, number: int) -> None:
    """Send a signal at a call of something that the run calls."""
    taken, calls = getattr(training, name), []

    def counted(*arguments: Any, **settings: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return taken(*arguments, **settings)

    monkeypatch.setattr(training, name, counted)


# Of a run that is stopped again and again: what is called when a signal comes, and its exit code. In the warm-up,
# in the evaluation before, in a save, and in the evaluation after.
STOPS = [
    ("warm_up", 1, signal.SIGINT, 130),
    ("evaluate", 1, signal.SIGTERM, 75),
    ("save_rollouts", 2, signal.SIGINT, 130),
    ("evaluate", 1, signal.SIGTERM, 75),
]


def test_a_stop_in_any_phase_is_followed_by_an_exact_resume(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "FINAL_PROBLEMS", 64)
    more = ("--checkpoint-every", "1", "--evaluate-every", "2", "--warm-up", "0.02")
    assert train(*more, "--out", "whole") == 0
    whole = FOLDER.relative_to("runs")
    rows = []
    for *place, exit_code in STOPS:
        with monkeypatch.context() as patch:
            _stop_in(patch, *place)
            assert train(*more, "--resume") == exit_code, place
        rows.append(load_checkpoint(FOLDER / "checkpoints" / "last")[1].get("rows", 0))
        assert str(FOLDER / "checkpoints" / "last") in capsys.readouterr().err
        assert not (FOLDER / "result.json").exists()
    assert rows == [0, 0, 3, 5]
    assert main(["resume", str(FOLDER)]) == 0
    assert _untimed(FOLDER) == _untimed("whole" / whole)
    assert (FOLDER / "metrics.jsonl").read_bytes() == ("whole" / whole / "metrics.jsonl").read_bytes()
    tensors = [load_checkpoint(at / "checkpoints" / "last")[0] for at in (FOLDER, "whole" / whole)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert main(["resume", str(FOLDER)]) == 0  # of a finished run: its result


def test_keep_is_the_number_of_older_checkpoints(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "FINAL_PROBLEMS", 64)
    assert train("--checkpoint-every", "1", "--keep", "3", "--warm-up", "0.02") == 0
    kept = sorted(path.name for path in (FOLDER / "checkpoints").iterdir())
    assert kept == ["last", "last.previous", "last.previous.2", "last.previous.3"]
    steps = [load_checkpoint(FOLDER / "checkpoints" / name)[1]["rows"] for name in kept]
    assert steps == [5, 4, 3, 2]


def test_what_cannot_go_on_is_one_line(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "FINAL_PROBLEMS", 64)
    assert train("--warm-up", "0.02") == 0
    (FOLDER / "result.json").unlink()
    rows = (FOLDER / "metrics.jsonl").read_text().splitlines(keepends=True)
    (FOLDER / "metrics.jsonl").write_text("".join(rows[:3]) + rows[3][:-1])
    capsys.readouterr()
    assert train("--resume", "--warm-up", "0.02") == 3
    assert "metrics.jsonl must have the 5 rows that the checkpoint counts, got 3" in capsys.readouterr().err
    last = FOLDER / "checkpoints" / "last"
    tensors, metadata = load_checkpoint(last)
    save_checkpoint(last, tensors, {"agent": "rlvr", "state": metadata["state"]})  # as an older entroreg did
    assert train("--resume", "--warm-up", "0.02") == 3
    assert "must say in which phase the run is, and says none" in capsys.readouterr().err
    assert main(["eval", str(FOLDER), "--episodes", "5"]) == 0
    (last / "tensors.safetensors").write_bytes(b"")
    assert train("--resume", "--warm-up", "0.02") == 3
    assert "is not as" in capsys.readouterr().err


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
        (("--keep", "0"), "keep must be at least 1, got 0"),
        (("--resume", "--overwrite"), "overwrite and resume exclude each other"),
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
