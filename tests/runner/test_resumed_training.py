"""``resume`` of a training run, whose folder may lie elsewhere by then: it ends as if undisturbed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from entroreg.benchmarks.cli import main
from entroreg.benchmarks.distillation import options as distill
from entroreg.benchmarks.distillation import training as distillation
from entroreg.benchmarks.distillation.building import images_of
from entroreg.benchmarks.mil import options as mil
from entroreg.benchmarks.mil import training as cross_validation
from entroreg.benchmarks.robust import options as robust
from entroreg.benchmarks.robust import training as adversarial
from entroreg.benchmarks.signals import StopFlag


def _stop_after(asks: int) -> StopFlag:
    left = [asks]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return cast(StopFlag, stop)


def _resumed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], Path]:
    """Go on with a run of tmp_path/runs that was stopped, once its folder lies elsewhere."""
    assert not (folder / "result.json").exists()
    assert (folder / "checkpoints" / "last").exists()
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / folder.relative_to(tmp_path / "runs")
    capsys.readouterr()
    assert main(["resume", str(moved), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "runs").exists()
    found: dict[str, Any] = json.loads((moved / "result.json").read_bytes())
    assert {name: printed[name] for name in found} == found
    return found, moved


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if "time" not in name and "seconds" not in name} for row in rows]


def test_a_cross_validation_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lines = [
        ",".join(map(str, [bag % 2, bag, *rng.normal(size=3) + 2 * (bag % 2)]))
        for bag in range(12)
        for _ in range(2)
    ]
    (tmp_path / "bags.csv").write_text("\n".join(lines) + "\n")
    asked = mil.TrainMIL(
        mil.DataOptions(tmp_path / "bags.csv", standardize=True),
        mil.ModelOptions(hidden=4, dropout=0.2),
        mil.AEMOptions(aem=0.1),
        mil.FitOptions(epochs=3, bags_per_step=4),
        mil.CrossValidationOptions(folds=2, threads=1, device="cpu", out=tmp_path / "runs"),
    )
    whole = cross_validation.train(asked, tmp_path / "whole", _stop_after(10**6))
    assert whole is not None
    folder = cross_validation.run_folder(asked)
    assert cross_validation.train(asked, folder, _stop_after(5)) is None
    found, moved = _resumed(folder, tmp_path, capsys)
    assert {**found, "train_seconds": 0} == {**whole, "train_seconds": 0}
    assert _rows(moved) == _rows(tmp_path / "whole")


def test_a_distillation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distillation, "images_of", lambda options, part: images_of(options, part).first(200))
    asked = distill.TrainDistill(
        distill.StudentOptions("plain", "strided-conv", 4, "bars"),
        distill.TeacherOptions(()),
        distill.AttackOptions(attack_steps=2, tests=("fgsm", "pgd"), test_images=50),
        distill.FitOptions(2, 64, "adam", 1e-2, schedule="constant", log_every=2),
        distill.RunOptions(seed=3, threads=1, device="cpu", out=tmp_path / "runs"),
    )
    whole = distillation.train(asked, tmp_path / "whole", _stop_after(10**6))
    assert whole is not None
    folder = distillation.run_folder(asked)
    assert distillation.train(asked, folder, _stop_after(3)) is None
    found, moved = _resumed(folder, tmp_path, capsys)
    assert {**found["accuracy"], "test_seconds": 0} == {**whole["accuracy"], "test_seconds": 0}
    one, other = (load_file(at / "student.safetensors") for at in (moved, tmp_path / "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert _rows(moved) == _rows(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:the curriculum has not moved")
def test_an_adversarial_training_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--net", "8", "--batch-size", "16", "--learning-starts", "60", "--eval-episodes", "1"]
    flags += ["--engine", "eager", "--steps", "600", "--return-floor", "4", "--env", "InvertedPendulum-v5"]
    assert main(["train", "qarl", *flags, "--out", str(tmp_path / "whole")]) == 0
    (whole,) = tmp_path.rglob("result.json")
    config = json.loads((whole.parent / "config.json").read_bytes())
    asked = robust.from_json(config)
    asked = replace(asked, run=replace(asked.run, out=tmp_path / "runs"))
    folder = tmp_path / "runs" / whole.parent.relative_to(tmp_path / "whole")
    assert adversarial.train(asked, folder, _stop_after(5)) is None
    found, moved = _resumed(folder, tmp_path, capsys)
    assert found == json.loads(whole.read_bytes())
    assert 0 < len(_rows(moved))
    assert _rows(moved) == _rows(whole.parent)


def test_what_cannot_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, config in {"other": '{"kind": "mil", "data": 1}', "unknown": '{"kind": "ppo"}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "nothing").mkdir()
    result = tmp_path / "result.json"
    result.write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused: dict[Path, Callable[[Path], str]] = {
        tmp_path / "unknown": lambda at: (
            f"{at / 'config.json'} must be written by 'entroreg train', got something else: the kind 'ppo', not one"
        ),
        tmp_path / "nothing": lambda at: f"{at} must be a run folder with config.json, got: [Errno 2] No such file",
        tmp_path / "none": lambda at: f"{at} must be a folder of results, got none: give the --out folder",
        result: lambda at: f"{at} must be a folder of results, got none",
        tmp_path / "other": lambda at: (
            f"{at / 'config.json'} must be written by 'entroreg train', got something else"
        ),
    }
    for folder, message in refused.items():
        assert main(["resume", str(folder)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"entroreg: error: {message(folder)}")
        assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in before} == before
