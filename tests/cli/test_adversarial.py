"""``entroreg train qarl`` and ``train rarl``, evaluation over uncertainty sets, and how runs stop and go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import stable_baselines3

from entroreg.benchmarks.cli import main
from entroreg.benchmarks.robust.building import floor_from
from entroreg.benchmarks.robust.options import PlayerOptions, RunOptions, TrainQARL
from entroreg.benchmarks.robust.policies import policy_of
from entroreg.benchmarks.robust.training import train
from entroreg.benchmarks.run_folder import read_config
from entroreg.benchmarks.signals import StopFlag

TASK = "InvertedPendulum-v5"
SMALL = ["--net", "8", "--batch-size", "16", "--learning-starts", "60", "--eval-episodes", "2", "--engine", "eager"]
QARL = ["train", "qarl", "--env", TASK, *SMALL, "--reference-steps", "300"]
pytestmark = pytest.mark.filterwarnings("ignore:the curriculum has not moved")


def _folder(out: Path, method: str = "qarl") -> Path:
    return out / "train" / method / TASK / "seed-0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("qarl")
    assert main([*QARL, "--steps", "900", "--out", str(out)]) == 0
    return _folder(out)


def test_a_run_leaves_everything(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["steps"] >= 900
    reference = json.loads((run / "reference.json").read_text())
    assert result["return_floor"] == 0.5 * reference["discounted_return"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == result["iterations"]
    steps = [row for row in rows if "curriculum/shape" in row]
    assert len(steps) == result["curriculum_updates"] == result["iterations"] // 3
    assert sum(row["curriculum/held_back"] for row in steps) == result["curriculum_held_back"]
    assert steps[-1]["curriculum/shape"] == result["shape"]
    for name in ("curriculum.png", "checkpoints/last", "tb", "config.json", "meta.json", "reference.zip"):
        assert (run / name).exists(), name


def test_the_zip_is_the_protagonist(run: Path) -> None:
    stock = stable_baselines3.SAC.load(run / "protagonist.zip", device="cpu")
    assert stock.observation_space.shape == (4,)


def test_what_the_command_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QARL, "--steps", "500", "--return-floor", "-1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    result = json.loads((_folder(tmp_path) / "result.json").read_text())
    assert result["curriculum_held_back"] == 0
    assert f"{result['curriculum_updates']} teacher updates, 0 held back by the floor, k " in out
    assert "return floor -1, discounted" in out
    assert not (_folder(tmp_path) / "reference.json").exists(), "a given floor needs no reference"


@pytest.mark.parametrize("curriculum", ["point", "linear", "homogeneous", "force"])
def test_every_curriculum_trains(curriculum: str, tmp_path: Path) -> None:
    flags = ["--curriculum", curriculum, "--return-floor", "1", "--steps", "200", "--out", str(tmp_path)]
    assert main([*QARL, *flags]) == 0
    assert (_folder(tmp_path, f"qarl-{curriculum}") / "result.json").exists()


def test_rarl_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rarl", "--env", TASK, *SMALL, "--steps", "200", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agent"] == "rarl"
    assert found["return_floor"] is None


def test_eval_repeats_the_evaluation(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--episodes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    result = json.loads((run / "result.json").read_text())
    assert found["returns"] == result["returns"]
    assert found["returns_with_adversary"] == result["returns_with_adversary"]


def test_robust_evaluation(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--robust", "rrls-2", "--points", "2", "--episodes", "2", "--adversary-steps", "150", "--json"]
    assert main(["eval", str(run), *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((run / "robust-rrls-2.json").read_text())
    assert np.shape(found["returns"]) == (2, 2)
    assert len(found["own_adversary"]) == len(found["fresh_adversary"]) == 2
    assert found["own_force"] == found["fresh_force"] == 3.0
    assert (run / "robust-rrls-2.png").read_bytes().startswith(b"\x89PNG")


def test_robust_evaluation_of_sac(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sac = [
        "train",
        "sac",
        "--env",
        TASK,
        "--steps",
        "150",
        "--net",
        "8",
        "--eval-episodes",
        "1",
        "--engine",
        "eager",
    ]
    assert main([*sac, "--out", str(tmp_path)]) == 0
    assert (
        main(["eval", str(_folder(tmp_path, "sac")), "--robust", "rrls-1", "--points", "3", "--episodes", "1"]) == 0
    )
    out = capsys.readouterr().out
    assert "rrls-1: mass:pole, 1 episodes a cell" in out
    assert "own adversary" not in out
    flags = ["--robust", "rrls-1", "--points", "2", "--episodes", "1", "--adversary-steps", "130", "--force", "0.5"]
    assert main(["eval", str(_folder(tmp_path, "sac")), *flags]) == 0
    assert "(up to 0.5 N)" in capsys.readouterr().out


def test_the_fresh_adversary_of_a_homogeneous_run_has_a_coefficient_of_its_own(tmp_path: Path) -> None:
    flags = ["--curriculum", "homogeneous", "--return-floor", "1", "--steps", "200", "--out", str(tmp_path)]
    assert main([*QARL, *flags]) == 0
    folder = _folder(tmp_path, "qarl-homogeneous")
    policy = policy_of(folder, read_config(folder))
    assert policy.settings.ent_coef == "auto_0.005"
    forces = policy.forces_of_fresh(100, None)
    assert len(policy.against_adversaries(1, 100, forces, lambda: False)["fresh_adversary"]) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--robust", "rrls-9"], "unknown uncertainty set of InvertedPendulum-v5 'rrls-9': did you mean 'rrls-"),
        (["--robust", "rrls-1", "--points", "1"], "points must be at least 2, got 1"),
        (["--heatmap"], "heatmap and slides are for runs of mil"),
        (["--robust", "rrls-1", "--adversary-steps", "60"], "adversary_steps must be above learning_starts, 60 in"),
        (
            ["--robust", "rrls-1", "--adversary-steps", "99", "--force", "-1"],
            "force must be finite and above 0, got -1.0",
        ),
        (["--robust", "rrls-1", "--force", "1"], "force is that of a fresh adversary: give --robust and"),
    ],
)
def test_bad_evaluations(run: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "InvertedPendulun-v5"], "did you mean 'InvertedPendulum-v5'"),
        (["--env", "Pendulum-v1"], "unknown task with forces 'Pendulum-v1'"),
        (["--env", TASK, "--force", "-1"], "force must be finite and above 0, got -1.0"),
        (["--env", TASK, "--overwrite", "--resume"], "overwrite and resume exclude each other"),
        (["--env", TASK, "--learning-rate", "0"], "learning_rate must be finite and above 0, got 0.0"),
        (["--env", TASK, "--gamma", "1"], "gamma must be in (0, 1), got 1.0"),
        (["--env", TASK, "--episodes", "0"], "episodes must be at least 1, got 0"),
        (["--env", TASK, "--device", "cuda:7"], "device 'cuda:7' is not here"),
    ],
)
def test_bad_trainings(flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "cuda:7" in flags:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
    assert main(["train", "qarl", *flags, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    arguments = [*QARL, "--steps", "1800", "--return-floor", "4", "--checkpoint-every", "3"]
    assert main([*arguments, "--out", str(tmp_path / "straight")]) == 0
    straight, stopped = _folder(tmp_path / "straight"), _folder(tmp_path / "stopped")
    command = [sys.executable, "-c", "import sys; from entroreg.benchmarks.cli import main; sys.exit(main())"]
    command += [*arguments, "--out", str(tmp_path / "stopped")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(_rows(stopped) if (stopped / "metrics.jsonl").exists() else []) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert not (stopped / "result.json").exists()
    assert main([*arguments, "--out", str(tmp_path / "stopped"), "--resume"]) == 0
    assert _rows(stopped) == _rows(straight)
    results = [json.loads((folder / "result.json").read_text()) for folder in (stopped, straight)]
    assert results[0] == results[1]


def test_another_run_is_not_gone_on_with(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.parents[3]
    assert main([*QARL, "--steps", "900", "--out", str(out)]) == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert main([*QARL, "--steps", "901", "--out", str(out), "--resume"]) == 2
    assert "steps must be 900 to go on with the run" in capsys.readouterr().err
    (run / "result.json").rename(run / "away.json")
    assert main([*QARL, "--steps", "901", "--out", str(out), "--resume"]) == 2
    assert "steps must be 900 to go on with the run" in capsys.readouterr().err
    (run / "away.json").rename(run / "result.json")
    assert main([*QARL, "--steps", "900", "--out", str(out), "--resume"]) == 0


def test_a_line_that_a_crash_tore_is_no_obstacle(tmp_path: Path) -> None:
    arguments = [*QARL, "--steps", "400", "--return-floor", "4", "--out", str(tmp_path)]
    assert main(arguments) == 0
    folder = _folder(tmp_path)
    rows, result = _rows(folder), (folder / "result.json").read_text()
    (folder / "result.json").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"num_timesteps": 5')
    assert main([*arguments, "--resume"]) == 0
    assert _rows(folder) == rows
    assert json.loads((folder / "result.json").read_text()) == json.loads(result)


def test_a_stop_ends_the_training_of_the_reference(tmp_path: Path) -> None:
    options = TrainQARL(RunOptions(TASK, steps=100, out=tmp_path), PlayerOptions(net=(8,), learning_starts=60))
    asked = iter(range(10**6))
    stop = cast(StopFlag, lambda: next(asked) > 100)
    assert train(options, _folder(tmp_path), stop) is None
    assert next(asked) < 200
    assert not (_folder(tmp_path) / "reference.json").exists()


def test_half_of_a_loss_is_no_floor(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_text('{"discounted_return": -3.0}')
    with pytest.raises(ValueError, match=r"must have a discounted return above 0, got -3.*give --return-floor"):
        floor_from(path)
