"""A distillation goes on exactly from each of its checkpoints, and needs every field of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from run_cases import DISTILLATION, beside, distillation_run, first_images, write_data
from run_history import LAST, Power, Saved, compare, history, power

from entroreg.benchmarks.distillation import training

RUN = distillation_run()
TELLING = 4  # a checkpoint all of whose fields matter: there is one step since the last row, the rate is to fall
STEPS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("distillation") / "whole"
    write_data(folder.parent)
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
    options = beside(DISTILLATION, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "images_of", first_images)
        training._Run(options, folder, training._new_trainer(options))._save()
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
