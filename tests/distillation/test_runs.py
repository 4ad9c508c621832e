"""``train distill`` as a run in a folder: results, resumption, teachers from files, bad input."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from entroreg.benchmarks.distillation import training
from entroreg.benchmarks.distillation.bars import drawn_bars
from entroreg.benchmarks.distillation.building import (
    images_of,
    new_student,
    read_network,
    settings_of,
    teachers_of,
)
from entroreg.benchmarks.distillation.options import (
    TEACHERS,
    AttackOptions,
    FitOptions,
    RunOptions,
    StudentOptions,
    TeacherOptions,
    TrainDistill,
    from_json,
    to_json,
)
from entroreg.benchmarks.distillation.training import evaluate_run, run_folder, train
from entroreg.benchmarks.distillation.verbs import evaluate_distill, train_distill
from entroreg.benchmarks.errors import MISSING, UserError
from entroreg.benchmarks.run_folder import read_config
from entroreg.checkpoint import load_checkpoint
from entroreg.vision.distillation import METHODS
from entroreg.vision.images.data import ImageSet
from entroreg.vision.images.networks import ResNet18, SmallConvNet

NEVER: Callable[[], bool] = lambda: False  # noqa: E731
_STUDENT = StudentOptions("plain", "strided-conv", 4, "bars")


def _options(method: Any = "plain", **changes: Any) -> TrainDistill:
    options = TrainDistill(
        replace(_STUDENT, method=method),
        TeacherOptions(changes.pop("teachers", ())),
        AttackOptions(attack_steps=2, tests=("fgsm", "pgd"), test_images=100),
        FitOptions(2, 64, "adam", 1e-2, schedule="constant", log_every=20),
        RunOptions(seed=3, threads=1, device="cpu"),
    )
    return replace(options, run=replace(options.run, **changes))


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "images_of", lambda options, part: images_of(options, part).first(500))
    return tmp_path


@pytest.fixture
def teachers(in_tmp: Path) -> tuple[Path, Path]:
    """A run folder of a clean teacher, and a .pt file of a robust one."""
    train(_options(), in_tmp / "clean", NEVER)
    train(_options("adversarial"), in_tmp / "robust", NEVER)
    torch.save(load_file(in_tmp / "robust" / "student.safetensors"), in_tmp / "robust.pt")
    return in_tmp / "clean", in_tmp / "robust.pt"


def test_teachers_teach_and_everything_is_written(
    teachers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = _options("mtard", teachers=teachers)
    folder = run_folder(options)
    assert folder.as_posix() == "runs/train/distill-mtard-solve-strided-conv/bars/seed-3"
    assert train_distill(options) == 0
    out = capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text())
    found = result["accuracy"]
    assert f"{found['pgd']:.4f}" in out
    assert found["weighted_pgd"] == pytest.approx((found["clean"] + found["pgd"]) / 2)
    assert found["images"] == 100
    assert found["clean"] > 0.5
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [8, 16]
    assert result["trace"]["entropy_0"] == pytest.approx([row["entropy_0"] for row in rows], abs=1e-6)
    assert all(abs(row["entropy_0"] - row["entropy_1"]) < 1e-6 for row in rows)
    assert (folder / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    config = read_config(folder)
    again = evaluate_run(folder, config, "cpu")
    assert {**again, "test_seconds": 0} == {**found, "test_seconds": 0}
    assert evaluate_distill(folder, config, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["pgd"] == found["pgd"]
    assert evaluate_distill(folder, config, as_json=False) == 0
    assert "mean with clean" in capsys.readouterr().out
    assert train_distill(replace(options, run=replace(options.run, overwrite=True, json=True))) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(folder)
    with pytest.raises(UserError, match="holds a finished run"):
        train(options, folder, NEVER)


@pytest.mark.parametrize("stop_at", [3, 8, 11])
def test_a_stopped_run_goes_on_exactly(in_tmp: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    options = _options("adversarial")
    whole = train(options, in_tmp / "whole", NEVER)
    assert whole is not None
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps == stop_at

    folder = in_tmp / "stopped"
    assert train(options, folder, stop) is None
    assert not (folder / "result.json").exists()
    assert not (folder / "student.safetensors").exists()
    with pytest.raises(UserError, match="must be a finished run"):
        evaluate_run(folder, read_config(folder), "cpu")
    with pytest.raises(UserError, match="holds the checkpoint of a run that was stopped"):
        train(options, folder, NEVER)
    resumed = replace(options, run=replace(options.run, resume=True))
    with pytest.raises(UserError, match=r"learning_rate must be 0.01 to go on with the run"):
        train(replace(resumed, fit=replace(resumed.fit, learning_rate=0.1)), folder, NEVER)
    result = train(resumed, folder, NEVER)
    assert result is not None
    assert {**result["accuracy"], "test_seconds": 0} == {**whole["accuracy"], "test_seconds": 0}
    one, other = (load_file(at / "student.safetensors") for at in (folder, in_tmp / "whole"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    rows = [
        [{**json.loads(line), "seconds": 0} for line in (at / "metrics.jsonl").read_text().splitlines()]
        for at in (folder, in_tmp / "whole")
    ]
    assert rows[0] == rows[1]
    monkeypatch.setattr(training, "Trainer", None)
    assert train(resumed, folder, NEVER) == result  # done: nothing is trained
    with pytest.raises(UserError, match="learning_rate must be"):
        train(replace(resumed, fit=replace(resumed.fit, learning_rate=0.1)), folder, NEVER)


def test_sigterm_saves_and_says_so(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = training.Trainer._take_step

    def step(trainer: Any, picked: Any) -> None:
        taken(trainer, picked)
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training.Trainer, "_take_step", step)
    options = _options()
    folder = run_folder(options)
    assert train_distill(options) == 75
    assert str(folder / "checkpoints" / "last") in capsys.readouterr().err
    _, metadata = load_checkpoint(folder / "checkpoints" / "last")
    assert metadata["trainer"]["step"] == 3
    assert train_distill(replace(options, run=replace(options.run, resume=True))) == 0


def test_a_damaged_checkpoint(in_tmp: Path) -> None:
    folder = in_tmp / "run"
    assert train(_options(), folder, lambda: True) is None
    (folder / "checkpoints" / "last" / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is not as") as caught:
        train(_options(resume=True), folder, NEVER)
    assert caught.value.exit_code == MISSING


def test_autoattack_without_its_package_is_refused_first(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    options = _options()
    options = replace(options, attack=replace(options.attack, tests=("autoattack",)))
    with pytest.raises(UserError, match=r"pip install 'entroreg\[attacks\]'") as caught:
        train(options, in_tmp / "run", NEVER)
    assert caught.value.exit_code == MISSING
    assert not (in_tmp / "run").exists()


@pytest.mark.parametrize("network", ["strided-conv", "small-conv", "small-conv-plain", "resnet18"])
def test_a_network_is_known_by_its_tensors(tmp_path: Path, network: str) -> None:
    images = drawn_bars("test")
    made: torch.nn.Module
    if network == "small-conv-plain":
        made = SmallConvNet(1, 16, 10, width=3, normalisation=False)
    elif network == "resnet18":
        made = ResNet18(1, 10)
    else:
        made = new_student(StudentOptions("plain", network, 3, "bars"), images, 0)  # type: ignore[arg-type]
    save_file(made.state_dict(), tmp_path / "a.safetensors")
    torch.save(made.state_dict(), tmp_path / "a.pt")
    pixels = torch.rand(2, 1, 16, 16)
    for name in ("a.safetensors", "a.pt"):
        torch.testing.assert_close(read_network(tmp_path / name, images).eval()(pixels), made.eval()(pixels))


def test_teachers_are_in_evaluation_mode_and_have_views(teachers: tuple[Path, Path]) -> None:
    images = drawn_bars("train")
    found = teachers_of(_options("mtard", teachers=teachers), images)
    assert [teacher.view for teacher in found] == ["clean", "adversarial"]
    assert not any(teacher.network.training for teacher in found)
    (one,) = teachers_of(_options("rslad", teachers=teachers[1:]), images)
    assert one.view == "adversarial"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"must be a run folder, .safetensors or .pt file, got"),
        (b"no file of torch", r"must be a .safetensors file or a .pt file of tensors alone"),
        ([torch.zeros(2)], "must hold a state dict, names to tensors"),
        ({"weight": torch.zeros(2)}, "must hold the state dict of a strided-conv, small-conv or resnet18"),
        ({"classifier.weight": torch.zeros(2, 2)}, "must hold the state dict of a strided-conv"),
    ],
)
def test_bad_teacher_files(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "teacher.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        read_network(path, drawn_bars("test"))


def test_bad_safetensors_and_other_data(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match=r"must be a .safetensors file"):
        read_network(tmp_path / "a.safetensors", drawn_bars("test"))
    for network, message in (
        (SmallConvNet(1, 16, 7), "got 1 channels and 7 classes: give a teacher of the same data"),
        (SmallConvNet(3, 16, 10), "got 3 channels and 10 classes: give a teacher of the same data"),
    ):
        save_file(network.state_dict(), tmp_path / "b.safetensors")
        with pytest.raises(UserError, match=message):
            read_network(tmp_path / "b.safetensors", drawn_bars("test"))


def test_an_executable_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"a .pt file of tensors alone"):
        read_network(tmp_path / "evil.pt", drawn_bars("test"))
    assert not (tmp_path / "ran").exists()


def test_students_are_a_function_of_the_seed() -> None:
    images: ImageSet = drawn_bars("test")

    def weights(seed: int) -> Tensor:
        return torch.cat([parameter.flatten() for parameter in new_student(_STUDENT, images, seed).parameters()])

    before = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_options_come_back_from_json_and_fit_the_library() -> None:
    options = TrainDistill(teaching=TeacherOptions((Path("clean.pt"), Path("robust.pt"))))
    data = json.loads(json.dumps(to_json(options)))
    assert data == to_json(options)
    assert from_json(data) == options
    settings = settings_of(options)
    assert (settings.attack.eps, settings.attack.step) == (8 / 255, 2 / 255)
    assert settings.optimizer.milestones_of(settings.epochs) == (215, 260, 285)
    assert settings.crop_and_flip
    assert not settings_of(replace(options, model=replace(options.model, data="mnist"))).crop_and_flip
    assert options.name == "distill-mtard-solve-resnet18"
    assert {name: method.teachers for name, method in METHODS.items()} == TEACHERS


def test_bars_are_always_the_same() -> None:
    train_set, test_set = drawn_bars("train"), drawn_bars("test")
    assert train_set.images.shape == (2000, 1, 16, 16)
    assert len(test_set.labels) == 500
    assert torch.equal(drawn_bars("test").images, test_set.images)
    assert set(test_set.labels.tolist()) == set(range(10))


TWO = (Path("a"), Path("b"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainDistill(), "method mtard takes two teachers or more, got 0"),
        (lambda: TrainDistill(teaching=TeacherOptions(TWO[:1])), "takes two teachers or more, got 1"),
        (lambda: TrainDistill(_STUDENT, TeacherOptions(TWO)), "method plain has no teachers, got 2"),
        (lambda: TrainDistill(StudentOptions("rslad"), TeacherOptions(TWO)), "method rslad takes one teacher"),
        (lambda: TrainDistill(teaching=TeacherOptions((*TWO, Path("c")))), "views must be given for 3 teachers"),
        (lambda: TeacherOptions(TWO, views=("clean",)), "views must be as many as teachers, 2, got 1"),
        (lambda: TeacherOptions(entropy_rate=0.0), "entropy_rate must be finite and above 0, got 0"),
        (lambda: TeacherOptions(loss_rate=2.0), r"loss_rate must be in \(0, 1\], got 2"),
        (lambda: StudentOptions(width=8), "width is for strided-conv and small-conv, got 8"),
        (lambda: StudentOptions(student="small-conv", width=0), "width must be at least 1, got 0"),
        (lambda: AttackOptions(eps=8.0), r"eps must be in \(0, 1\], got 8.0: pixels are in \[0, 1\]"),
        (lambda: AttackOptions(eps=-0.1), r"eps must be in \(0, 1\], got -0.1"),
        (lambda: AttackOptions(attack_step=0.0), "attack_step must be finite and above 0"),
        (lambda: AttackOptions(attack_steps=0), "attack_steps must be at least 1, got 0"),
        (lambda: AttackOptions(test_images=0), "test_images must be at least 1, got 0"),
        (lambda: AttackOptions(warm_up=1.0), r"warm_up must be in \[0, 1\), got 1.0"),
        (lambda: FitOptions(epochs=0), "epochs must be at least 1, got 0"),
        (lambda: FitOptions(log_every=0), "log_every must be at least 1, got 0"),
        (lambda: FitOptions(milestones=(0,)), "milestones must be at least 1, got 0"),
        (lambda: FitOptions(learning_rate=-1.0), "learning_rate must be finite and above 0"),
        (lambda: FitOptions(weight_decay=-1.0), "weight_decay must be finite and at least 0"),
        (lambda: RunOptions(seed=-1), "seed must be at least 0, got -1"),
        (lambda: RunOptions(threads=0), "threads must be at least 1, got 0"),
        (lambda: RunOptions(overwrite=True, resume=True), "overwrite and resume exclude each other"),
    ],
)
def test_bad_options(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
