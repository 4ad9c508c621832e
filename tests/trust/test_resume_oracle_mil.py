"""A cross-validation goes on exactly from each of its checkpoints, and needs every field of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from run_cases import mil_run, write_data
from run_history import LAST, Power, Saved, compare, history, power

RUN = mil_run()
TELLING = 8  # a checkpoint all of whose fields matter


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("mil") / "whole"
    write_data(folder.parent)
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
