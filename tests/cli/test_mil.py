"""``entroreg train mil``: a cross-validation, its evaluation, a stop and its continuation, and bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from entroreg.benchmarks.errors import MISSING, UserError
from entroreg.benchmarks.mil import cross_validation
from entroreg.benchmarks.mil.evaluation import evaluate_run, load_fold
from entroreg.benchmarks.mil.options import (
    AEMOptions,
    CrossValidationOptions,
    DataOptions,
    FitOptions,
    ModelOptions,
    TrainMIL,
    from_json,
    to_json,
)
from entroreg.benchmarks.mil.outcomes import as_text
from entroreg.benchmarks.mil.training import run_folder, train
from entroreg.benchmarks.run_folder import read_config
from entroreg.checkpoint import load_checkpoint
from entroreg.vision.mil.fitting import bag_metrics, predict

FOLDER = Path("runs/train/mil-abmil-aem-cosine/features/seed-3")
NEVER: Callable[[], bool] = lambda: False  # noqa: E731


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where 24 slides of 12 patients lie; in a tumour's slide one instance is shifted and marked."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    Path("features").mkdir()
    rows = ["slide,label,patient"]
    for index in range(24):
        tumour = index // 2 % 2
        features = generator.normal(size=(3 + index % 4, 6)).astype(np.float32)
        marks = np.zeros(len(features), dtype=np.uint8)
        if tumour:
            features[0, :2] += 4
            marks[0] = 1
        with h5py.File(f"features/s{index:02d}.h5", "w") as file:
            file["features"] = features
            file["instance_labels"] = marks
        rows.append(f"s{index:02d},{('normal', 'tumour')[tumour]},p{index // 2:02d}")
    Path("labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def options(**changes: Any) -> TrainMIL:
    found = TrainMIL(
        DataOptions(Path("features"), Path("labels.csv")),
        ModelOptions(hidden=8, dropout=0.2),
        AEMOptions(aem=0.1, aem_schedule="cosine"),
        FitOptions(epochs=5, bags_per_step=4, learning_rate=0.02),
        CrossValidationOptions(folds=3, seed=3, threads=1, validation_share=0.3, device="cpu"),
    )
    return replace(found, **{group: replace(getattr(found, group), **values) for group, values in changes.items()})


def train_all(**changes: Any) -> dict[str, Any]:
    asked = options(**changes)
    result = train(asked, run_folder(asked), NEVER)
    assert result is not None
    return result


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_and_evaluation_repeats_it(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train_all()
    assert run_folder(options()) == FOLDER
    assert json.loads((FOLDER / "result.json").read_text()) == result
    assert (result["bags"], result["patients"], result["unit"]) == (24, 12, "patient")
    assert result["score"] == result["metrics"]["auroc"] > 0.8
    low, high = result["intervals"]["auroc"]
    assert 0.0 <= low <= result["score"] <= high <= 1.0
    assert result["attention"]["instance_auroc"] > 0.55
    assert result["attention"]["instance_auroc_bags"] == 12
    assert 0.0 < result["attention"]["entropy_share"] <= 1.0
    assert [fold["fold"] for fold in result["folds"]] == [0, 1, 2]
    assert {(fold["epochs"], fold["bags"]) for fold in result["folds"]} == {(5, 8)}

    rows = rows_of(FOLDER)
    assert [(row["fold"], row["epoch"]) for row in rows] == [(f, e) for f in range(3) for e in range(1, 6)]
    assert rows[0]["train/lambda"] < 0.1
    assert rows[4]["train/lambda"] == pytest.approx(0.0, abs=1e-9)
    events = EventAccumulator(str(FOLDER / "tb" / "fold-1"))
    events.Reload()
    for name in ("train/loss", "train/attention_entropy_share", "train/lambda", "validation/auroc"):
        assert [event.value for event in events.Scalars(name)] == pytest.approx([row[name] for row in rows[5:10]])

    with (FOLDER / "predictions.csv").open() as file:
        predicted = list(csv.DictReader(file))
    assert [row["bag"] for row in predicted] == [f"s{index:02d}" for index in range(24)]
    probs = np.array([[float(row["prob_normal"]), float(row["prob_tumour"])] for row in predicted])
    labels = [int(row["label"] == "tumour") for row in predicted]
    assert bag_metrics(probs, labels).values == result["bag_metrics"]
    by_patient = probs.reshape(12, 2, 2).mean(axis=1)
    assert bag_metrics(by_patient, labels[::2]).values == result["metrics"]

    assert (FOLDER / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((FOLDER / "meta.json").read_text())["packages"]["torch"]
    splits = json.loads((FOLDER / "splits.json").read_text())["folds"]
    assert sorted(name for fold in splits for name in fold["test"]) == [f"s{index:02d}" for index in range(24)]
    err = capsys.readouterr().err
    assert "15/15" in err
    assert "fold 2: test AUROC" in err

    evaluated = evaluate_run(FOLDER, read_config(FOLDER))
    assert {name: result[name] for name in evaluated} == evaluated
    assert "metrics" in evaluated
    lines = as_text(evaluated).splitlines()
    assert lines[0] == "24 bags of 12 patients, 3 folds, per patient"
    assert f"  auroc              {result['score']:.3f}  [{low:.3f}, {high:.3f}]" in lines
    assert lines[-1].startswith("  instance AUROC     0.")
    model, dataset, split = load_fold(FOLDER, 1)
    again = predict(model, dataset, split.test).probs
    assert again.tolist() == [probs[index].tolist() for index in split.test]
    assert not model.training


def test_a_stopped_run_that_goes_on_is_the_undisturbed_one(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_all(run={"out": Path("whole")})
    asked = options(run={"resume": True})
    # In an epoch 3 steps ask, then its validation twice, then its end; in the test of a fold, 8 bags and 3 places.
    # So it stops in the first epoch, in the validation, in the test of the first fold, in the validation of the
    # second fold's first epoch, after the third epoch of the third fold, and at once.
    epoch, test = 6, 11
    for asks in (2, 3, 5 * epoch + 3, test + 3, 5 * epoch + test + 3 * epoch - 1, 0):
        left = [asks]

        def stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        assert train(asked, FOLDER, stop) is None
        assert (FOLDER / "checkpoints" / "last").exists()
        assert not (FOLDER / "result.json").exists()
        with (FOLDER / "metrics.jsonl").open("a") as file:
            file.write('{"fold": 9, "epoch": 9}\n')  # as after a crash: written, and in no checkpoint
    finished = rows_of(FOLDER)[-2]
    assert (finished["fold"], finished["epoch"]) == (2, 3)
    result = train(asked, FOLDER, NEVER)
    assert result is not None
    assert {**result, "train_seconds": 0} == {**whole, "train_seconds": 0}
    other = Path("whole", *FOLDER.parts[1:])
    for name in ("metrics.jsonl", "predictions.csv", "splits.json"):
        assert (FOLDER / name).read_bytes() == (other / name).read_bytes()
    for fold in range(3):
        first, second = (load_checkpoint(root / "checkpoints" / f"fold-{fold}") for root in (FOLDER, other))
        assert first[1] == second[1]
        assert all(torch.equal(value, second[0][name]) for name, value in first[0].items())
    events = EventAccumulator(str(FOLDER / "tb" / "fold-0"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]

    assert train(asked, FOLDER, NEVER) == result  # a finished run is not run again


def test_a_run_is_saved_now_and_then(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "_SAVE_SECONDS", 0.0)
    result = train_all()
    (FOLDER / "result.json").unlink()  # as if killed after the last epoch
    again = train(options(run={"resume": True}), FOLDER, NEVER)
    assert again is not None
    assert {**again, "train_seconds": 0} == {**result, "train_seconds": 0}


def test_what_is_there_is_neither_lost_nor_mixed(in_tmp: Path) -> None:
    assert train(options(), FOLDER, lambda: True) is None
    with pytest.raises(UserError, match="holds the checkpoint of a run that was stopped: choose another --out"):
        train(options(), FOLDER, NEVER)
    with pytest.raises(UserError, match=r"dropout must be 0.2 to go on with the run in .*, got 0.5: give"):
        train(options(run={"resume": True}, model={"dropout": 0.5}), FOLDER, NEVER)
    tensors = FOLDER / "checkpoints" / "last" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"tensors.safetensors is not as .* says") as error:
        train(options(run={"resume": True}), FOLDER, NEVER)
    assert error.value.exit_code == MISSING
    train_all(run={"overwrite": True})
    with pytest.raises(UserError, match="holds a finished run"):
        train(options(), FOLDER, NEVER)


def test_standardised_folds_remember_how(in_tmp: Path) -> None:
    result = train_all(data={"standardize": True}, aem={"aem_schedule": "dual"})
    folder = Path("runs/train/mil-abmil-aem-dual/features/seed-3")
    _, dataset, split = load_fold(folder, 0)
    seen = torch.cat([dataset.features(index) for index in split.train])
    assert seen.mean(0).numpy() == pytest.approx(np.zeros(6), abs=1e-5)
    assert seen.std(0, correction=0).numpy() == pytest.approx(np.ones(6), abs=1e-5)
    assert evaluate_run(folder, read_config(folder))["metrics"] == result["metrics"]


def test_a_classic_data_set(in_tmp: Path) -> None:
    generator = np.random.default_rng(1)
    rows = []
    for bag in range(18):
        for instance in range(1 + bag % 3):
            features = 100 + 50 * generator.normal(size=4) + 400 * (bag % 2) * (instance == 0)
            rows.append(",".join(map(str, [bag % 2, bag, *features])))
    Path("toy.csv").write_text("\n".join(rows) + "\n")
    data = {"features": Path("toy.csv"), "labels": None, "standardize": True}
    result = train_all(data=data, fit={"epochs": 20})
    assert (result["data"], result["bags"], result["unit"]) == ("toy", 18, "bag")
    assert result["score"] > 0.9


@pytest.mark.parametrize("model", ["mean", "dsmil", "multi-head"])
def test_other_models(in_tmp: Path, model: Any) -> None:
    aem = {"aem": 0.0 if model == "mean" else 0.1, "aem_schedule": "constant"}
    changes = {"chunk_size": 4} if model == "multi-head" else {}
    result = train_all(model={"model": model, **changes}, aem=aem, run={"folds": 2}, fit={"epochs": 2})
    assert (result["attention"] is None) == (model == "mean")
    assert (
        Path("runs/train") / f"mil-{model}{'-aem' if aem['aem'] else ''}" / "features" / "seed-3" / "result.json"
    ).exists()


def test_slides_of_a_patient_with_other_labels_are_judged_alone(in_tmp: Path) -> None:
    text = Path("labels.csv").read_text()
    Path("labels.csv").write_text(text.replace("s02,tumour", "s02,normal"))
    result = train_all(fit={"epochs": 1})
    assert result["unit"] == "bag"
    assert "bag_metrics" not in result


def test_patients_as_bags(in_tmp: Path) -> None:
    result = train_all(data={"by": "patient"}, fit={"epochs": 1})
    assert (result["bags"], result["unit"]) == (12, "bag")


def test_a_loss_that_overflows_stops_the_run(in_tmp: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"became (nan|inf) in epoch \d, step \d: bags 's\d\d'"):
        train_all(fit={"learning_rate": 100.0, "weight_decay": 100.0})
    assert not (FOLDER / "result.json").exists()


def test_the_flags_are_the_options(in_tmp: Path) -> None:
    flags = "--features f --labels l.csv --model gated-abmil --aem 0.1 --aem-schedule dual --amp --hidden 9"
    found = tyro.cli(TrainMIL, args=flags.split(), config=(tyro.conf.OmitArgPrefixes,))
    assert found.data == DataOptions(Path("f"), Path("l.csv"))
    assert found.model == ModelOptions("gated-abmil", hidden=9)
    assert (found.aem.aem, found.aem.aem_schedule, found.aem.normalized) == (0.1, "dual", True)
    assert (found.fit.amp, found.run.folds) == (True, 5)
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"features": Path("musk1.csv")}}, "labels are in musk1.csv itself: leave --labels out"),
        ({"data": {"memory_budget": -1.0}}, "memory_budget must be finite and at least 0, got -1.0"),
        ({"model": {"dropout": 1.0}}, "dropout must be in [0, 1), got 1.0"),
        ({"model": {"hidden": 0}}, "hidden must be at least 1, got 0"),
        ({"fit": {"epochs": 0}}, "epochs must be at least 1, got 0"),
        (
            {"model": {"model": "dsmil", "chunk_size": 9}},
            "chunk_size is for abmil, gated-abmil, multi-head, got model",
        ),
        ({"aem": {"aem": -0.1}}, "aem must be finite and at least 0, got -0.1"),
        ({"aem": {"aem": 0.0, "aem_schedule": "dual"}}, "aem must be above 0 for dual to start from, got 0"),
        ({"aem": {"aem_target": 1.0}}, "aem_target must be in (0, 1), a share of log N, got 1.0"),
        ({"aem": {"aem_learning_rate": 0.0}}, "aem_learning_rate must be finite and above 0, got 0.0"),
        (
            {"aem": {"aem_top_k": 3, "aem_schedule": "dual"}},
            "aem_top_k and an entropy divided by log N exclude each",
        ),
        ({"model": {"model": "mean"}}, "aem needs a model with attention, got mean: choose another --model"),
        ({"run": {"folds": 1}}, "folds must be at least 2, got 1"),
        ({"run": {"resume": True, "overwrite": True}}, "overwrite and resume exclude each other"),
        ({"run": {"validation_share": 1.0}}, "validation_share must be in [0, 1), got 1.0"),
        ({"run": {"validation_share": 0.0}, "fit": {"patience": 3}}, "patience needs validation bags to wait for"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        options(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"model": "multi-head", "hidden": 9}}, "hidden must be a multiple of heads=8, got 9"),
        ({"run": {"device": "tpu9"}}, "device must be auto, cpu or cuda, got 'tpu9'"),
        ({"run": {"folds": 7}}, "class 'normal' has 6 patients"),
        ({"data": {"features": Path("nowhere")}}, "nowhere"),
        ({"data": {"labels": Path("nothing.csv")}}, "nothing.csv"),
    ],
)
def test_what_cannot_run_is_one_line_and_leaves_no_folder(
    in_tmp: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        train_all(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("runs").exists()


def test_evaluation_of_what_is_no_such_run(in_tmp: Path) -> None:
    assert train(options(), FOLDER, lambda: True) is None
    with pytest.raises(UserError, match="has no finished fold yet: train longer, or go on with --resume"):
        evaluate_run(FOLDER, read_config(FOLDER))
    with pytest.raises(UserError, match="must be the checkpoint of a finished fold, got none"):
        load_fold(FOLDER, 0)
    with pytest.raises(UserError, match=r"fold must be in \[0, 2\], got 3"):
        load_fold(FOLDER, 3)
    with pytest.raises(UserError, match="must be written by 'entroreg train'"):
        evaluate_run(FOLDER, {"kind": "mil"})
    Path("labels.csv").write_text(Path("labels.csv").read_text().replace("s02,tumour", "s02,normal"))
    with pytest.raises(UserError, match=r"splits.json must be of this data, got bag 's02'"):
        evaluate_run(FOLDER, read_config(FOLDER))
