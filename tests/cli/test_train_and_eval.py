"""The main job through the command: train, evaluate, stop, fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3

from entroreg.benchmarks.cli import main
from entroreg.benchmarks.run_folder import claimed

SMALL = ("--net", "8", "--batch-size", "16", "--eval-episodes", "2", "--threads", "1")
FOLDER = Path("runs/train/sac/Pendulum-v1/seed-3")


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train_pendulum(*more: str) -> int:
    return main(["train", "sac", "--env", "Pendulum-v1", "--steps", "410", "--seed", "3", *SMALL, *more])


def test_a_run_leaves_everything_and_eval_repeats_it(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_pendulum() == 0
    out, err = capsys.readouterr()
    result = json.loads((FOLDER / "result.json").read_text())
    assert len(result["returns"]) == len(result["random_returns"]) == 2
    assert result["return_mean"] == pytest.approx(np.mean(result["returns"]))
    assert result["steps"] == 410
    assert out.splitlines()[-1].split()[-1] == str(FOLDER / "result.json")
    assert "410/410" in err
    assert "alpha" in err
    rows = [json.loads(line) for line in (FOLDER / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [200, 400]
    assert 0 < rows[-1]["alpha"] < 1
    assert rows[-1]["target_entropy"] == -1.0
    assert (FOLDER / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert list((FOLDER / "tb").glob("events.*"))
    assert json.loads((FOLDER / "meta.json").read_text())["packages"]["torch"]

    assert main(["eval", str(FOLDER), "--episodes", "2", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["returns"] == result["returns"]
    assert evaluated["random_returns"] == result["random_returns"]

    ours = stable_baselines3.SAC.load(FOLDER / "model.zip")
    observation = np.array([0.5, 0.5, 1.0], dtype=np.float32)
    assert np.isfinite(ours.predict(observation, deterministic=True)[0]).all()


def test_a_finished_run_is_replaced_only_on_request(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_pendulum() == 0
    before = (FOLDER / "result.json").read_text()
    assert train_pendulum() == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (FOLDER / "result.json").read_text() == before
    assert train_pendulum("--overwrite", "--learning-rate", "0.01") == 0
    assert (FOLDER / "result.json").read_text() != before


def test_a_stopped_run_and_a_running_one_are_left_alone(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_pendulum() == 0
    (FOLDER / "result.json").unlink()  # as after SIGTERM
    assert train_pendulum() == 2
    assert "holds the checkpoint of a run that was stopped" in capsys.readouterr().err
    assert (FOLDER / "model.zip").exists()
    with claimed(FOLDER, overwrite=True):
        assert train_pendulum("--overwrite") == 2
    assert "is being written by another process" in capsys.readouterr().err
    assert train_pendulum("--overwrite") == 0


def test_the_dual_flags_reach_the_controller(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--target-entropy-end", "-3", "--alpha-maximum", "0.5", "--ent-coef", "auto_0.5", "--json")
    assert train_pendulum(*flags, "--alpha-learning-rate", "0.01") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["alpha"]["max"] <= 0.5
    rows = [json.loads(line) for line in (FOLDER / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["target_entropy"] == pytest.approx(-1.0 - 2.0 * 298 / 310)


def test_discrete_sac(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--q-clip", "0.5", "--entropy-penalty", "0.5", "--double-average-q", "--json")
    assert main(["train", "discrete-sac", "--env", "CartPole-v1", "--steps", "200", *SMALL, *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(["eval", result["folder"], "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == result["returns"]


class NanReward(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.zeros(2, np.float32), float("nan") if self.steps == 150 else 0.0, False, self.steps == 160, {}


def test_nan_reward_ends_the_run_with_one_line(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gym.register("NanReward-v0", NanReward)
    try:
        arguments = [
            "train",
            "sac",
            "--env",
            "NanReward-v0",
            "--steps",
            "2000",
            "--checkpoint-every",
            "120",
            *SMALL,
        ]
        assert main(arguments) == 1
    finally:
        del gym.registry["NanReward-v0"]
    line = capsys.readouterr().err.splitlines()[-1]
    assert "reward of environment 0 became nan at environment step 150: " in line
    assert "last good checkpoint: runs/train/sac/NanReward-v0/seed-0/checkpoints/last" in line
    assert not Path("runs/train/sac/NanReward-v0/seed-0/result.json").exists()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    arguments = ["train", "sac", "--env", "Pendulum-v1", "--steps", "1000000", "--seed", "3", *SMALL]
    code = f"import sys; from entroreg.benchmarks.cli import main; sys.exit(main({arguments!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    metrics = tmp_path / FOLDER / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == exit_code, err
    assert "Traceback" not in err
    assert str(FOLDER / "checkpoints" / "last") in err
    assert not (tmp_path / FOLDER / "result.json").exists()
    assert main(["eval", str(tmp_path / FOLDER), "--episodes", "1"]) == 0
