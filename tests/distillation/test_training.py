"""The loop: one step by hand, exact resumption, balance, schedules, bad input."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, softmax

from entroreg.checkpoint import load_checkpoint, save_checkpoint
from entroreg.state_tree import join_state, split_state
from entroreg.vision.distillation import (
    METHODS,
    Attack,
    Balance,
    BalanceSettings,
    DistillationSettings,
    OptimizerSettings,
    Teacher,
    Trainer,
    attacked,
    train,
)
from entroreg.vision.distillation.networks import StridedConvNet
from entroreg.vision.distillation.schedules import attack_share, learning_rate, milestone_factor
from entroreg.vision.distillation.step_check import StepCheck
from entroreg.vision.images.data import ImageSet
from entroreg.vision.images.networks import SmallConvNet

CLASSES, SIDE = 3, 16


def _images(count: int = 20) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = torch.randint(0, 60, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 5 * label : 5 * label + 3] += 180
    return ImageSet(images, labels, CLASSES)


def _network(seed: int, *, normalisation: bool = False) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        if normalisation:
            return SmallConvNet(1, SIDE, CLASSES, width=2)
        return StridedConvNet(1, SIDE, CLASSES, width=2)


def _sharp(seed: int) -> nn.Module:
    """Return a network that is sure of something, unlike one at its first weights."""
    network = _network(seed).eval()
    with torch.no_grad():
        network.get_parameter("classifier.weight").mul_(8.0)
    return network


def _teachers(method: str) -> list[Teacher]:
    both = [Teacher(_sharp(11), "clean"), Teacher(_sharp(12), "adversarial")]
    return both[{"none": 2, "one": 1, "several": 0}[METHODS[method].teachers] :]


def _settings(method: str, **changes: Any) -> DistillationSettings:
    settings = DistillationSettings(
        method,
        Attack(0.1, 0.05, 2),
        OptimizerSettings("sgd", 0.05, schedule="constant"),
        epochs=2,
        batch=8,
        seed=3,
    )
    return replace(settings, **changes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("normalisation", [False, True])
def test_every_method_learns_and_leaves_its_teachers_alone(method: str, normalisation: bool) -> None:
    teachers = _teachers(method)
    before = [copy.deepcopy(teacher.network.state_dict()) for teacher in teachers]
    student = _network(1, normalisation=normalisation)
    settings = _settings(method, epochs=6, optimizer=OptimizerSettings("adam", 3e-3, schedule="cosine"))
    rows = train(student, _images(), settings, teachers)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15, 18]
    assert rows[-1]["loss"] < rows[0]["loss"]
    for teacher, old in zip(teachers, before, strict=True):
        assert not teacher.network.training
        assert all(torch.equal(value, old[name]) for name, value in teacher.network.state_dict().items())
        assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_one_step_of_b_mtard_by_hand() -> None:
    """Balance by sign, as in the authors' code: losses at the old temperatures, weights before the step."""
    images, settings = _images(8), _settings("mtard", epochs=1, balance=BalanceSettings(entropy="sign"))
    student, teachers = _network(1), _teachers("mtard")
    by_hand = copy.deepcopy(student)
    trainer = Trainer(student, images, settings, teachers)
    (row,) = trainer.run()

    order = torch.randperm(8, generator=trainer._stream(0, 0))
    pixels, labels = images.images[order].float() / 255.0, images.labels[order]
    adversarial = attacked(
        by_hand,
        pixels,
        lambda z: cross_entropy(z, labels, reduction="sum"),
        settings.attack,
        trainer._stream(2, 0),
    )
    clean, robust = (teacher.network for teacher in teachers)
    losses = []
    for view, teacher in ((pixels, clean), (adversarial, robust)):
        target, log_q = softmax(teacher(view).detach(), 1), log_softmax(by_hand(view), 1)
        losses.append(torch.mean(target * (target.log() - log_q)))  # over batch and classes
    total = 0.5 * losses[0] + 0.5 * losses[1]
    total.backward()  # type: ignore[no-untyped-call]
    assert row["loss"] == pytest.approx(total.item(), rel=1e-5)
    assert row["weight_0"] == 0.5
    entropies = [
        -(softmax(t(v), 1) * log_softmax(t(v), 1)).sum(1).mean().item()
        for t, v in ((clean, pixels), (robust, adversarial))
    ]
    higher = entropies.index(max(entropies))
    assert row[f"temperature_{higher}"] == 1.0  # clipped
    assert row[f"temperature_{1 - higher}"] == pytest.approx(1.001)
    for parameter, old in zip(student.parameters(), by_hand.parameters(), strict=True):
        assert old.grad is not None
        expected = old - 0.05 * (old.grad + 2e-4 * old)
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)


def test_a_single_teacher_method_by_hand() -> None:
    images, settings = _images(8), _settings("rslad", epochs=1)
    student, (teacher,) = _network(1), _teachers("rslad")
    by_hand = copy.deepcopy(student)
    trainer = Trainer(student, images, settings, [teacher])
    (row,) = trainer.run()
    pixels = images.images[torch.randperm(8, generator=trainer._stream(0, 0))].float() / 255.0
    target = softmax(teacher.network(pixels).detach(), 1)

    def inner(logits: Tensor) -> Tensor:
        return (target * (target.log() - log_softmax(logits, 1))).sum()

    adversarial = attacked(by_hand, pixels, inner, settings.attack, trainer._stream(2, 0))
    parts = [
        (target * (target.log() - log_softmax(by_hand(view), 1))).mean().item() for view in (adversarial, pixels)
    ]
    assert row["loss"] == pytest.approx(5 / 6 * parts[0] + 1 / 6 * parts[1], rel=1e-4)


@pytest.mark.parametrize("method", ["plain", "trades", "mtard"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("entropy", ["solve", "sign"])
def test_a_resumed_training_is_an_undisturbed_one(tmp_path: Any, method: str, optimizer: Any, entropy: Any) -> None:
    settings = _settings(
        method,
        optimizer=OptimizerSettings(optimizer, 0.01, schedule="cosine"),
        balance=BalanceSettings(entropy=entropy),
        warm_up=0.5,
        log_every=2,
        crop_and_flip=True,
        channels_last=True,
    )
    images = _images()

    def new() -> Trainer:
        return Trainer(_network(1, normalisation=True), images, settings, _teachers(method))

    whole = new()
    expected = list(whole.run())
    for stop_after in range(1, 6):
        stopped = new()
        rows = list(stopped.run(lambda stopped=stopped, last=stop_after: stopped.step == last))  # type: ignore[misc]
        assert stopped.step == stop_after
        tensors, tree = split_state(stopped.state_dict())
        save_checkpoint(tmp_path / "last", tensors, {"state": tree})
        tensors, metadata = load_checkpoint(tmp_path / "last")
        resumed = new()
        resumed.load_state_dict(join_state(tensors, metadata["state"]))
        rows += resumed.run()
        assert rows == expected
        for name, value in whole.student.state_dict().items():
            assert torch.equal(resumed.student.state_dict()[name], value), name
        again, _ = split_state(resumed.state_dict())
        assert all(torch.equal(value, again[name]) for name, value in split_state(whole.state_dict())[0].items())


def test_a_state_is_a_copy_and_must_fit() -> None:
    trainer = Trainer(_network(1), _images(), _settings("mtard"), _teachers("mtard"))
    state = trainer.state_dict()
    list(trainer.run())
    fresh = Trainer(_network(1), _images(), _settings("mtard"), _teachers("mtard"))
    assert all(torch.equal(state["student"][name], value) for name, value in fresh.student.state_dict().items())
    with pytest.raises(ValueError, match=r"state of Trainer does not fit: missing keys \['step'\]"):
        trainer.load_state_dict({name: value for name, value in state.items() if name != "step"})
    plain = Trainer(_network(1), _images(), _settings("plain"))
    with pytest.raises(ValueError, match="state of Balance does not fit"):
        plain.load_state_dict(state)


def test_a_run_does_not_touch_global_random_numbers() -> None:
    before = torch.get_rng_state()
    train(_network(1), _images(), _settings("adversarial", crop_and_flip=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_solve_balances_every_batch() -> None:
    rows = train(_network(1), _images(), _settings("mtard", log_every=1), _teachers("mtard"))
    assert all(abs(row["entropy_0"] - row["entropy_1"]) < 1e-6 for row in rows)
    assert all(min(row["temperature_0"], row["temperature_1"]) == 1.0 for row in rows)
    assert [row["weight_0"] + row["weight_1"] for row in rows] == pytest.approx([1.0] * len(rows))


def test_three_teachers() -> None:
    teachers = [*_teachers("mtard"), Teacher(_sharp(13), "clean")]
    rows = train(_network(1), _images(), _settings("mtard", log_every=1), teachers)
    assert all(max(row[f"entropy_{i}"] for i in range(3)) - row["entropy_2"] < 1e-6 for row in rows)
    assert rows[0]["loss"] == pytest.approx(sum(rows[0][f"loss_{i}"] for i in range(3)) / 3)


def test_only_images_that_a_teacher_sees_are_passed() -> None:
    student, calls = _network(1), []
    student.register_forward_hook(lambda module, _inputs, _output: calls.append(module.training))
    teachers = [Teacher(_network(seed).eval(), "adversarial") for seed in (11, 12)]
    train(student, _images(8), _settings("mtard", epochs=1), teachers)
    assert calls == [False, False, True]


def test_balance_metrics_and_rates() -> None:
    logits = [torch.tensor([[4.0, 0.0]]), torch.tensor([[1.0, 0.0]])]
    balance = Balance(BalanceSettings(entropy="sign", entropy_rate=0.1, loss_rate=0.5), 2)
    balance.slow_down(0.1)
    assert torch.equal(balance.temperatures(logits), torch.ones(2, dtype=torch.float64))
    balance.combined([torch.tensor(2.0), torch.tensor(2.0)])
    torch.testing.assert_close(balance.temperatures(logits)[0], torch.tensor(1.01, dtype=torch.float64))
    loss, metrics = balance.combined([torch.tensor(2.0), torch.tensor(1.0)])
    weight = 0.5 + 0.05 * (1 / 1.5 - 0.5)  # a tenth of the rate
    assert metrics["weight_0"].item() == pytest.approx(weight)
    assert loss.item() == pytest.approx(2 * weight + (1 - weight))
    off = Balance(BalanceSettings(entropy="none", losses=False), 2)
    assert torch.equal(off.temperatures(logits), torch.ones(2))
    loss, metrics = off.combined([torch.tensor(2.0), torch.tensor(1.0)])
    assert loss.item() == 1.5
    assert metrics["entropy_1"].item() == pytest.approx(0.5822, abs=1e-4)
    assert off.state_dict() == {}


def test_schedules() -> None:
    paper = DistillationSettings("mtard", Attack(8 / 255, 2 / 255))
    assert [milestone_factor(paper, epoch) for epoch in (0, 214)] == [1.0, 1.0]
    assert [milestone_factor(paper, epoch) for epoch in (215, 260, 285)] == pytest.approx([0.1, 0.01, 0.001])
    assert learning_rate(paper, 260 * 7, 7) == pytest.approx(1e-3)
    assert OptimizerSettings().milestones_of(30) == (22, 26, 28)
    own = replace(paper, optimizer=OptimizerSettings(milestones=(1,)), epochs=3)
    assert [learning_rate(own, step, 2) for step in range(4)] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    cosine = replace(paper, optimizer=OptimizerSettings(schedule="cosine"), epochs=2)
    expected = [0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert [learning_rate(cosine, step, 4) for step in range(8)] == pytest.approx(expected)
    assert milestone_factor(cosine, 1) == 1.0
    warm = replace(paper, warm_up=0.5, epochs=2)
    assert [attack_share(warm, step, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert attack_share(paper, 0, 4) == 1.0


def test_bfloat16_autocast_trains() -> None:
    rows = train(_network(1), _images(), _settings("mtard", amp=True), _teachers("mtard"))
    exact = train(_network(1), _images(), _settings("mtard"), _teachers("mtard"))
    assert rows[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.1)
    assert rows[0]["loss"] != exact[0]["loss"]


def test_a_loss_that_is_not_finite_ends_it() -> None:
    student = _network(1)
    settings = _settings("plain", optimizer=OptimizerSettings("sgd", 1e30, schedule="constant"), epochs=5)
    with pytest.raises(FloatingPointError, match=r"loss became (nan|inf) at step \d+: lower the learning rate"):
        train(student, _images(), settings)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change() -> None:
    student = _network(1)
    trainer = Trainer(student, _images(), _settings("plain", epochs=3, log_every=1))
    rows = trainer.run()
    assert next(rows)["step"] == 1
    next(student.parameters()).register_hook(lambda gradient: gradient * math.inf)
    before = [parameter.detach().clone() for parameter in student.parameters()]
    with pytest.raises(FloatingPointError, match=r"^gradient norm became (nan|inf) at step 2: lower the learning"):
        next(rows)
    assert all(torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))


def test_steps_that_are_read_late_are_named_rightly_and_never_saved() -> None:
    one = torch.ones(())
    check = StepCheck(at_once=False)
    for step in range(1, 11):
        check.add(step, one * (math.nan if step > 7 else 1.0), one)
    with pytest.raises(FloatingPointError, match=r"^loss became nan at step 8: "):
        check.read()
    check.read()  # what was read is not read again
    for step in range(1, 64):
        check.add(step, one, one * math.inf)
    with pytest.raises(FloatingPointError, match=r"^gradient norm became inf at step 1: "):
        check.add(64, one, one)

    trainer = Trainer(_network(1), _images(), _settings("plain"))
    trainer._check = StepCheck(at_once=False)  # as on a GPU
    next(trainer.student.parameters()).register_hook(lambda gradient: gradient * math.inf)
    list(trainer.run(stop=lambda: True))
    assert trainer.step == 1
    with pytest.raises(FloatingPointError, match=r"^gradient norm became (nan|inf) at step 1: "):
        trainer.state_dict()


@pytest.mark.parametrize(
    ("method", "teachers", "message"),
    [
        ("plain", 1, "method plain takes none of teachers, got 1"),
        ("rslad", 2, "method rslad takes one of teachers, got 2"),
        ("ard", 0, "method ard takes one of teachers, got 0"),
        ("mtard", 1, "method mtard takes several of teachers, got 1"),
    ],
)
def test_the_number_of_teachers(method: str, teachers: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(_network(1), _images(), _settings(method), _teachers("mtard")[:teachers])


def test_bad_teachers() -> None:
    images, settings = _images(), _settings("rslad")
    with pytest.raises(TypeError, match=r"network must be a torch.nn.Module, got function"):
        Teacher(lambda x: x, "clean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="view must be one of"):
        Teacher(_network(1).eval(), "robust")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"evaluation mode, got 'it' in training mode: call .eval\(\)"):
        Teacher(_network(1), "clean")
    partly = _network(1, normalisation=True).eval()
    teacher = Teacher(partly, "clean")
    partly.features[1].train()  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match=r"evaluation mode, got 'features.1' in training mode"):
        Trainer(_network(1), images, settings, [teacher])
    other = Teacher(StridedConvNet(1, SIDE, CLASSES + 2, width=2).eval(), "clean")
    with pytest.raises(
        ValueError, match=r"teachers must have the student's 3 classes, got logits of shape \(8, 5\)"
    ):
        Trainer(_network(1), images, settings, [other])
    broken = _network(1).eval()
    with torch.no_grad():
        broken.get_parameter("classifier.bias")[0] = math.nan
    with pytest.raises(ValueError, match="teachers must have finite logits, teacher 0 does not"):
        Trainer(_network(1), images, settings, [Teacher(broken, "clean")])
    with pytest.raises(ValueError, match="images must not be empty"):
        Trainer(_network(1), ImageSet(images.images[:0], images.labels[:0], CLASSES), _settings("plain"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "mtardd"}, ValueError, "method must be one of"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"batch": 1.5}, TypeError, "batch must be an int, got float"),
        ({"log_every": 0}, ValueError, "log_every must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"warm_up": 1.0}, ValueError, r"warm_up must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_settings(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace(_settings("plain"), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "lion"}, "name must be one of"),
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and above 0"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and at least 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"milestones": (0,)}, "milestones must be at least 1, got 0"),
    ],
)
def test_bad_optimizer_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerSettings(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entropy": "bisect"}, "entropy must be one of"),
        ({"entropy_rate": 0.0}, "entropy_rate must be finite and above 0"),
        ({"loss_rate": 1.5}, r"loss_rate must be in \(0, 1\], got 1.5"),
    ],
)
def test_bad_balance_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BalanceSettings(**change)


@pytest.mark.gpu
def test_training_on_a_gpu() -> None:
    settings = _settings("mtard", amp=True, channels_last=True, crop_and_flip=True)
    student = _network(1, normalisation=True)
    rows = train(student, _images(), settings, _teachers("mtard"), device="cuda")
    assert rows[-1]["loss"] < 2.0
    trainer = Trainer(student, _images(), settings, _teachers("mtard"), device="cuda")
    torch.save(trainer.state_dict(), io.BytesIO())
