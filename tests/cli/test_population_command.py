"""Several seeds in one process through the command: each folder as if its seed had been trained alone."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import stable_baselines3

from entroreg.benchmarks.cli import main
from entroreg.benchmarks.monitor import EpisodeRecorder

SMALL = ("--steps", "410", "--net", "8", "--batch-size", "16", "--eval-episodes", "2", "--threads", "1")
TRAIN = ("train", "sac", "--env", "Pendulum-v1", *SMALL)
SEEDS = Path("runs/train/sac/Pendulum-v1")


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_seed_as_if_trained_alone(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--seed", "2", "--seeds", "2", "--population", "--alpha-maximum", "0.9", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "410/410" in err
    results = json.loads(out)
    assert [result["seed"] for result in results] == [2, 3]
    assert main([*TRAIN, "--seed", "3", "--alpha-maximum", "0.9", "--out", "alone", "--json"]) == 0
    ours, theirs = SEEDS / "seed-3", Path("alone/train/sac/Pendulum-v1/seed-3")
    assert results[1]["folder"] == str(ours)
    for folder in (ours, theirs):
        for event_file in (folder / "tb").iterdir():
            event_file.unlink()
    names = [sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (ours, theirs)]
    assert names[0] == names[1]
    configs = [json.loads((folder / "config.json").read_text()) for folder in (ours, theirs)]
    configs[1]["run"] |= {"out": "runs", "json": configs[0]["run"]["json"]}
    assert configs[0] == configs[1]
    rows = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (ours, theirs)]
    assert len(rows[0]) == len(rows[1]) == 2
    for first, second in zip(*rows, strict=True):
        assert json.loads(first) == pytest.approx(json.loads(second), rel=1e-4)
    expected = json.loads((theirs / "result.json").read_text())
    assert results[1]["returns"] == pytest.approx(expected["returns"], rel=1e-4)
    assert results[1]["random_returns"] == expected["random_returns"]
    stable_baselines3.SAC.load(ours / "model.zip")

    capsys.readouterr()
    assert main(["eval", str(ours), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == results[1]["returns"]
    assert main([*TRAIN, "--seed", "3", "--seeds", "2", "--population"]) == 2
    assert "seed-3 holds a finished run" in capsys.readouterr().err
    assert not (SEEDS / "seed-4").exists()


def test_sigterm_leaves_every_checkpoint(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(EpisodeRecorder, "_write", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert main([*TRAIN, "--seeds", "2", "--population"]) == 75
    assert "each seed's checkpoint is in" in capsys.readouterr().err
    for seed in (0, 1):
        assert (SEEDS / f"seed-{seed}" / "checkpoints" / "last").is_dir()
        assert not (SEEDS / f"seed-{seed}" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TRAIN, "--seeds", "2"), "add --population"),
        ((*TRAIN, "--population"), "add --seeds"),
        ((*TRAIN, "--population", "--seeds", "0"), "seeds must be at least 1, got 0"),
        (
            ("train", "discrete-sac", "--env", "CartPole-v1", "--population", "--seeds", "2"),
            "population is for sac",
        ),
        (("train", "sac", "--env", "CartPole-v1", "--population", "--seeds", "2"), "discrete-sac"),
        ((*TRAIN, "--population", "--seeds", "2", "--target-entropy", "0.7"), "target entropy must be below"),
    ],
)
def test_usage_errors(
    arguments: tuple[str, ...], message: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err
    assert not list(in_tmp.iterdir())
