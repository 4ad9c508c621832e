"""A training that becomes NaN ends in one line that names what, when and the last good checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from entroreg.agents.rlvr.grpo import GRPOSettings
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.rlvr import training
from entroreg.checkpoint import load_checkpoint

AGENT = ("--net", "8", "--batch-size", "16", "--eval-episodes", "2", "--threads", "1", "--steps", "2000")
BROKEN_AT = 250


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class _Breaks(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose observations become NaN at a step, in an episode that does not end with it."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.taken = 0

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        self.taken += 1
        return observation * (math.nan if self.taken == BROKEN_AT else 1.0), *rest


@pytest.fixture
def broken() -> Iterator[None]:
    for name, task in (("BrokenPendulum-v0", "Pendulum-v1"), ("BrokenCartPole-v0", "CartPole-v1")):
        gym.register(name, lambda task=task: _Breaks(gym.make(task)))
    yield
    for name in ("BrokenPendulum-v0", "BrokenCartPole-v0"):
        del gym.registry[name]


def _failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command, which must fail; return the one line that says why."""
    assert main(["train", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert lines == err.splitlines()[-1:]
    assert lines[0].startswith("entroreg: error: the run failed: ")
    return lines[0].removeprefix("entroreg: error: the run failed: ")


def _good(folder: Path) -> str:
    """Check that a run has no result, and a checkpoint whose tensors are finite; return how a message ends."""
    assert not (folder / "result.json").exists()
    checkpoint = folder / "checkpoints" / "last"
    tensors, _ = load_checkpoint(checkpoint)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point())
    return str(checkpoint)


@pytest.mark.parametrize("verb", ["sac", "discrete-sac"])
def test_an_observation_that_is_nan(
    verb: str, in_tmp: Path, broken: None, capsys: pytest.CaptureFixture[str]
) -> None:
    env = "BrokenPendulum-v0" if verb == "sac" else "BrokenCartPole-v0"
    line = _failed(capsys, verb, "--env", env, "--checkpoint-every", "150", *AGENT)
    assert line.startswith(
        f"observation of environment 0 became nan in element (0,) at environment step {BROKEN_AT}: "
    )
    folder = Path("runs/train") / verb / env / "seed-0"
    assert line.endswith(f"; last good checkpoint: {_good(folder)}")


def test_a_run_without_a_checkpoint_says_so(in_tmp: Path, broken: None, capsys: pytest.CaptureFixture[str]) -> None:
    line = _failed(capsys, "sac", "--env", "BrokenPendulum-v0", *AGENT)
    assert line.endswith("; no checkpoint was due yet")


def test_a_learning_rate_that_is_far_too_large(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--env", "Pendulum-v1", "--checkpoint-every", "90", "--learning-rate", "100")
    line = _failed(capsys, "sac", *arguments, *AGENT)
    assert " became " in line
    assert " at update " in line
    assert line.endswith(f"; last good checkpoint: {_good(Path('runs/train/sac/Pendulum-v1/seed-0'))}")


def test_a_member_of_a_population_is_named(in_tmp: Path, broken: None, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--env", "BrokenPendulum-v0", "--checkpoint-every", "150", "--seeds", "2", "--population")
    line = _failed(capsys, "sac", *arguments, *AGENT)
    assert line.startswith("member 0 (seed 0): observation of environment 0 became nan in element (0,)")
    folder = Path("runs/train/sac/BrokenPendulum-v0")
    kept = ", ".join(_good(folder / f"seed-{seed}") for seed in (0, 1))
    assert line.endswith(f"; last good checkpoints: {kept}")


@pytest.mark.parametrize("verb", ["qarl", "rarl"])
def test_a_player_is_named(
    verb: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, taken = InvertedPendulumEnv.step, []

    def breaking(env: Any, action: Any) -> Any:
        observation, reward, *rest = step(env, action)
        taken.append(1)
        return observation, math.inf if len(taken) == BROKEN_AT else reward, *rest

    monkeypatch.setattr(InvertedPendulumEnv, "step", breaking)
    arguments = ["--env", "InvertedPendulum-v5", "--net", "8", "--batch-size", "16", "--learning-starts", "60"]
    more = ["--return-floor", "1"] if verb == "qarl" else []
    line = _failed(capsys, verb, *arguments, *more, "--steps", "900", "--checkpoint-every", "1", "--threads", "1")
    player, _, rest = line.partition(": ")
    assert player in ("protagonist", "adversary")
    assert rest.startswith(
        f"reward of environment 0 became {'' if player == 'protagonist' else '-'}inf at environment"
    )
    folder = Path(f"runs/train/{verb}/InvertedPendulum-v5/seed-0")
    assert line.endswith(f"; last good checkpoint: {_good(folder)}")


def _slides(bad: bool = False, scale: float = 1.0) -> tuple[str, ...]:
    generator = np.random.default_rng(0)
    Path("features").mkdir()
    rows = ["slide,label,patient"]
    for index in range(16):
        features = (scale * generator.normal(size=(4, 5))).astype(np.float32)
        features[0, 0] += 4 * (index % 2)
        if bad and index == 7:
            features[2, 3] = math.nan
        with h5py.File(f"features/s{index:02d}.h5", "w") as file:
            file["features"] = features
        rows.append(f"s{index:02d},{('normal', 'tumour')[index % 2]},p{index:02d}")
    Path("labels.csv").write_text("\n".join(rows) + "\n")
    return ("--features", "features", "--labels", "labels.csv", "--folds", "2", "--device", "cpu", "--threads", "1")


def test_features_that_are_nan_are_refused_with_their_file(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _slides(bad=True)
    assert main(["train", "mil", *arguments, "--epochs", "3"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "features/s07.h5: features must be finite, got nan in instance 2, feature 3" in line


def test_a_fit_that_explodes_names_fold_epoch_and_bags(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = _failed(capsys, "mil", *_slides(scale=1e25), "--epochs", "3")
    assert line.startswith("fold 0: ")
    assert " in epoch 1, step 1: bags 's" in line
    assert ": lower learning_rate, or scale the features; " in line
    assert line.endswith("; no checkpoint was due yet")


def test_a_distillation_that_explodes(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--data", "bars", "--student", "strided-conv", "--width", "4", "--method", "plain")
    # Each step multiplies the weights by -99.
    fit = ("--epochs", "3", "--optimizer", "sgd", "--learning-rate", "100", "--weight-decay", "1")
    line = _failed(capsys, "distill", *arguments, *fit, "--device", "cpu", "--threads", "1")
    assert line.startswith(("loss became ", "gradient norm became "))
    assert " at step " in line
    assert line.endswith("; no checkpoint was due yet")


def test_a_policy_that_explodes(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # More than the flag takes: layer normalisation bears a hundred.
    monkeypatch.setattr(training, "GRPOSettings", lambda *parts: GRPOSettings(*parts[:3], 1e30))
    task = ("--digits", "1", "--warm-up", "0.1", "--prompts", "16", "--samples", "8", "--steps", "5")
    line = _failed(capsys, "rlvr", "--control", "none", *task, "--threads", "1")
    assert " became " in line
    assert "step " in line
    folder = Path("runs/train/rlvr-none/addition-1/seed-0")
    assert line.endswith(f"; last good checkpoint: {_good(folder)}")  # of the warm-up


WATCHED = "import entroreg.agents.guarding as guarding\nguarding.EVERY = 1\n"


def test_a_watch_speaks_once_in_one_line(command: Any) -> None:
    arguments = ("--env", "Pendulum-v1", "--target-entropy", "0.69", "--alpha-learning-rate", "1", *AGENT, "--json")
    steps = ("--steps", "130", "--checkpoint-every", "105")
    done = command("train", "sac", *arguments, *steps, before=WATCHED)
    assert done.returncode == 0
    assert json.loads(done.stdout)["steps"] == 130
    said = [line for line in done.stderr.splitlines() if "warning" in line.lower()]
    assert len(said) == 1
    assert said[0].startswith("warning: temperature runs away: ")
    assert said[0].endswith("; last good checkpoint: runs/train/sac/Pendulum-v1/seed-0/checkpoints/last")
