"""A cross-validation goes on exactly from each of its checkpoints, and needs every field of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_history import LAST, Power, Run, Saved, compare, history, power

from entroreg.benchmarks.mil import cross_validation, training
from entroreg.benchmarks.mil.options import (
    AEMOptions,
    CrossValidationOptions,
    DataOptions,
    FitOptions,
    ModelOptions,
    TrainMIL,
)

FOLDS = 2
TELLING = 8  # a checkpoint all of whose fields matter


def _options(folder: Path) -> TrainMIL:
    return TrainMIL(
        DataOptions(folder.parent / "bags.csv", standardize=True),
        ModelOptions(hidden=3, dropout=0.2),
        AEMOptions(aem=0.1, aem_schedule="dual", aem_learning_rate=0.1),
        FitOptions(epochs=12, bags_per_step=4, learning_rate=0.03, weight_decay=0.1, patience=3),
        CrossValidationOptions(
            folds=FOLDS, threads=1, device="cpu", checkpoint_every=1, keep=99, validation_share=0.3, seed=1
        ),
    )


def _train(folder: Path, resume: bool, stop: Callable[[], bool]) -> bool:
    options = _options(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "plot_folds", lambda *_: None)
        return training.train(replace(options, run=replace(options.run, resume=resume)), folder, stop) is not None


def _write_bags(path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [
        ",".join(map(str, [bag % 2, bag, *rng.normal(size=3) + (bag % 2) * (instance == 0)]))
        for bag in range(24)
        for instance in range(3)
    ]
    path.write_text("\n".join(lines) + "\n")


FILES = ("metrics.jsonl", "predictions.csv", "splits.json", *(f"checkpoints/fold-{fold}" for fold in range(FOLDS)))
RUN = Run("mil", Path(__file__), _train, FILES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("mil") / "whole"
    _write_bags(folder.parent / "bags.csv")
    assert RUN.train(folder, False, lambda: False)
    fitters = [(len(saved.content["outcomes"]), saved.content["fitter"]) for saved in history(folder)]
    places = [(fold, fitter["epoch"]) for fold, fitter in fitters]
    assert places == [(0, epoch) for epoch in range(1, 7)] + [(1, epoch) for epoch in range(1, 5)]
    # In the second fold the best epoch is behind, patience is about to run out, and both decide what comes.
    selection = fitters[TELLING][1]["selection"]
    assert (selection["epoch"], selection["waited"]) == (2, 2)
    return folder


def _beside(whole: Path, name: str) -> Path:
    """Return a folder beside the undisturbed run's, where the bags are."""
    return whole.parent / name


def test_a_run_stopped_again_and_again_is_the_undisturbed_one(whole: Path) -> None:
    # An epoch asks at its steps, twice in its validation and at its end. So it stops at the first step, in the
    # validation of the second epoch, at the end of one, in the test of the first fold, and in the second fold.
    found = RUN.stopped_again_and_again(_beside(whole, "stopped"), (0, 9, 12, 14, 9))
    trained = found[1:]  # the first stop was before any training
    compared = compare([*history(whole), RUN.outcome(whole)], trained)
    print(compared.line("mil, stopped"))
    assert compared.differing == {}


@pytest.mark.parametrize("number", [0, 5, TELLING])
def test_it_goes_on_from_a_checkpoint(number: int, whole: Path) -> None:
    past = history(whole)
    go_on = RUN.go_on_in_a_fresh_process if number == TELLING else RUN.go_on
    compared = compare(RUN.after(past, number, whole), go_on(whole, past[number], _beside(whole, f"from-{number}")))
    print(compared.line(f"mil, from checkpoint {number + 1} of {len(past)}"))
    assert compared.differing == {}


@pytest.mark.slow
def test_it_goes_on_from_every_checkpoint(whole: Path) -> None:
    past = history(whole)
    for number, saved in enumerate(past):
        compared = compare(RUN.after(past, number, whole), RUN.go_on(whole, saved, _beside(whole, "from-each")))
        print(compared.line(f"mil, from checkpoint {number + 1} of {len(past)}"))
        assert compared.differing == {}


def _power(whole: Path, every: int = 1) -> Power:
    assert not RUN.train(_beside(whole, "fresh"), True, lambda: True)  # saves what nothing trained
    fresh = Saved.read(_beside(whole, "fresh") / LAST)
    del fresh.content["agent"]
    past = history(whole)
    judge = RUN.judge(whole, RUN.after(past, TELLING, whole), _beside(whole, "without"))
    found = power(past[TELLING], fresh, judge, every)
    print(found.line(f"mil, checkpoint {TELLING + 1} of {len(past)}"))
    return found


# The settings of the fit and of its optimisers; a watch that has seen nothing yet.
SAME = re.compile(r"/param_groups/|^fitter/settings/|^fitter/watch/")
# A clock's; and the learning rate is set from the step before every step.
UNNOTICED = {"seconds", "fitter/trainer/optimizer/param_groups/0/lr"}


def test_the_oracle_fails_without_a_field(whole: Path) -> None:
    found = _power(whole, every=9)
    assert len(found.dropped) > 4
    assert set(found.unnoticed) <= UNNOTICED


@pytest.mark.slow
def test_the_oracle_fails_without_any_field(whole: Path) -> None:
    found = _power(whole)
    assert set(found.unnoticed) == UNNOTICED
    assert [path for path in found.same if not SAME.search(path)] == []


if __name__ == "__main__":  # goes on in a folder, in a process of its own
    sys.exit(not RUN.train(Path(sys.argv[1]), True, lambda: False))
