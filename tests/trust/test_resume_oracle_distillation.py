"""A distillation goes on exactly from each of its checkpoints, and needs every field of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_history import LAST, Power, Run, Saved, compare, history, power
from safetensors.torch import save_file

from entroreg.benchmarks.distillation import training
from entroreg.benchmarks.distillation.building import images_of, new_student
from entroreg.benchmarks.distillation.options import (
    AttackOptions,
    FitOptions,
    RunOptions,
    StudentOptions,
    TeacherOptions,
    TrainDistill,
)

STUDENT = StudentOptions("mtard", "strided-conv", 2, "bars")
TEACHERS = ("clean.safetensors", "robust.safetensors")
TELLING = 4  # a checkpoint all of whose fields matter: there is one step since the last row, the rate is to fall
STEPS = 12


def _options(folder: Path) -> TrainDistill:
    return TrainDistill(
        STUDENT,
        TeacherOptions(tuple(folder.parent / name for name in TEACHERS), entropy_balance="sign", entropy_rate=0.1),
        AttackOptions(attack_steps=2, warm_up=0.5, tests=("fgsm", "pgd"), test_images=8),
        FitOptions(3, 16, "sgd", 0.05, weight_decay=0.01, milestones=(2,), log_every=3),
        RunOptions(seed=1, threads=1, device="cpu", checkpoint_every=1, keep=99),
    )


@contextmanager
def small() -> Iterator[None]:
    """Let a run take a second: 64 images, and no pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "images_of", lambda options, part: images_of(options, part).first(64))
        patch.setattr(training, "plot_rows", lambda *_: None)
        yield


def _train(folder: Path, resume: bool, stop: Callable[[], bool]) -> bool:
    options = _options(folder)
    with small():
        return training.train(replace(options, run=replace(options.run, resume=resume)), folder, stop) is not None


RUN = Run("distillation", Path(__file__), _train, ("metrics.jsonl", "student.safetensors"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("distillation") / "whole"
    images = images_of(STUDENT, "train")
    for seed, name in enumerate(TEACHERS):
        save_file(new_student(STUDENT, images, seed + 7).state_dict(), folder.parent / name)
    assert RUN.train(folder, False, lambda: False)
    trainers = [saved.content["trainer"] for saved in history(folder)]
    assert [trainer["step"] for trainer in trainers] == [*range(1, STEPS + 1), STEPS, STEPS]  # and two tests
    assert trainers[TELLING]["count"] == 1
    return folder


def _beside(whole: Path, name: str) -> Path:
    """Return a folder beside the undisturbed run's, where the teachers are."""
    return whole.parent / name


def test_a_run_stopped_again_and_again_is_the_undisturbed_one(whole: Path) -> None:
    # At the first step, in the middle of an epoch, at the end of one, at the last step, in the first and in the
    # second attack, which ask at each pass through the network.
    found = RUN.stopped_again_and_again(_beside(whole, "stopped"), (0, 4, 1, 3, 2, 9))
    compared = compare([*history(whole), RUN.outcome(whole)], found)
    print(compared.line("distillation, stopped"))
    assert compared.differing == {}


@pytest.mark.parametrize("number", [0, TELLING, STEPS])
def test_it_goes_on_from_a_checkpoint(number: int, whole: Path) -> None:
    past = history(whole)
    go_on = RUN.go_on_in_a_fresh_process if number == TELLING else RUN.go_on
    compared = compare(RUN.after(past, number, whole), go_on(whole, past[number], _beside(whole, f"from-{number}")))
    print(compared.line(f"distillation, from checkpoint {number + 1} of {len(past)}"))
    assert compared.differing == {}


@pytest.mark.slow
def test_it_goes_on_from_every_checkpoint(whole: Path) -> None:
    past = history(whole)
    for number, saved in enumerate(past):
        compared = compare(RUN.after(past, number, whole), RUN.go_on(whole, saved, _beside(whole, "from-each")))
        print(compared.line(f"distillation, from checkpoint {number + 1} of {len(past)}"))
        assert compared.differing == {}


def _power(whole: Path, number: int, every: int = 1, only: str = "") -> Power:
    folder = _beside(whole, "fresh")
    with small():
        training._Run(_options(folder), folder, training._new_trainer(_options(folder)))._save()
    fresh = Saved.read(folder / LAST)
    del fresh.content["agent"]
    past = history(whole)
    judge = RUN.judge(whole, RUN.after(past, number, whole), _beside(whole, "without"))
    found = power(past[number], fresh, judge, every, only)
    print(found.line(f"distillation, checkpoint {number + 1} of {len(past)}"))
    return found


# The settings of the optimiser; there are no tests before the end.
SAME = re.compile(r"/param_groups/|^tests$")
# A clock's; and the learning rate is set from the step before every step.
UNNOTICED = {"seconds", "trainer/optimizer/param_groups/0/lr"}


def test_the_oracle_fails_without_a_field(whole: Path) -> None:
    found = _power(whole, TELLING, every=6)
    assert len(found.dropped) > 4
    assert set(found.unnoticed) <= UNNOTICED


@pytest.mark.slow
def test_the_oracle_fails_without_any_field(whole: Path) -> None:
    found = _power(whole, TELLING)
    assert set(found.unnoticed) <= UNNOTICED
    assert [path for path in found.same if not SAME.search(path)] == []
    tests = _power(whole, STEPS, only="tests")
    assert {"tests/clean", "tests/fgsm"} <= set(tests.dropped)
    assert tests.unnoticed == ["tests/test_seconds/fgsm"]


if __name__ == "__main__":  # goes on in a folder, in a process of its own
    sys.exit(not RUN.train(Path(sys.argv[1]), True, lambda: False))
