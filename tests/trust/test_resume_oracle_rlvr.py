"""A run with verifiable rewards goes on exactly from each of its checkpoints, and needs every field of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import ADDITION, RLVR, rlvr_run, small_policy
from run_history import Power, Saved, compare, history, power

from entroreg.agents.rlvr.controls import CONTROLS
from entroreg.agents.rlvr.grpo import GRPO, GRPOSettings
from entroreg.agents.rlvr.warm_up import WarmingUp
from entroreg.benchmarks.rlvr.options import ControlName, TrainRLVR

RUN = rlvr_run()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("rlvr") / "whole"
    assert RUN.train(folder, False, lambda: False)
    phases = [saved.content["phase"] for saved in history(folder)]
    assert phases == ["warm-up"] * 3 + ["rollouts"] * 5
    return folder


def test_a_run_stopped_again_and_again_is_the_undisturbed_one(whole: Path, tmp_path: Path) -> None:
    # Each batch of the warm-up asks once. A stop at its first batch, in its middle, in the evaluation that follows,
    # after a rollout, and in the evaluation at the end.
    found = RUN.stopped_again_and_again(tmp_path / "stopped", (0, 8, 15, 3, 5))
    past = [saved for saved in history(whole)]
    compared = compare([*past, RUN.outcome(whole)], [saved for saved in found if _is_regular(saved)])
    print(compared.line("rlvr, stopped"))
    assert compared.differing == {}


def _is_regular(saved: Any) -> bool:
    """Whether an undisturbed run has this checkpoint too: stops in the warm-up have others."""
    in_warm_up = isinstance(saved, Saved) and saved.content["phase"] == "warm-up"
    return not in_warm_up or saved.content["state"]["steps"] in (10, 20, 25)


@pytest.mark.parametrize("number", [1, 2, 4, 7])
def test_it_goes_on_from_a_checkpoint(number: int, whole: Path, tmp_path: Path) -> None:
    past = history(whole)
    go_on = RUN.go_on_in_a_fresh_process if number == 4 else RUN.go_on
    compared = compare(RUN.after(past, number, whole), go_on(whole, past[number], tmp_path / "run"))
    print(compared.line(f"rlvr, from checkpoint {number + 1} of {len(past)}"))
    assert compared.differing == {}


def _fresh(saved: Saved, options: TrainRLVR) -> Saved:
    """Return what objects that were not trained have in place of a checkpoint."""
    model = small_policy(ADDITION, options.seed)
    if saved.content["phase"] == "warm-up":
        return Saved({"state": WarmingUp(model, ADDITION, seed=options.seed).state_dict()}, {})
    settings = GRPOSettings(options.prompts, options.samples, options.updates, options.learning_rate)
    trainer = GRPO(model, ADDITION, CONTROLS[options.control](0.5), settings, seed=options.seed)
    return Saved({"state": trainer.state_dict(), "rows": 0}, {})


def _power(whole: Path, folder: Path, number: int, every: int = 1) -> Power:
    past = history(whole)
    judge = RUN.judge(whole, RUN.after(past, number, whole), folder)
    found = power(past[number], _fresh(past[number], RLVR), judge, every)
    print(found.line(f"rlvr, checkpoint {number + 1} of {len(past)}"))
    return found


# The settings of an optimiser; a watch that has seen nothing yet; an accuracy that was not measured yet.
SAME = re.compile(r"/param_groups/|^state/watch/|^state/accuracy$")
# Of the last checkpoint of the warm-up: nothing follows that they are for.
SPENT = re.compile(r"^state/(optimizer/|generator$)")


def test_the_oracle_fails_without_a_field(whole: Path, tmp_path: Path) -> None:
    for number in (1, 4):
        found = _power(whole, tmp_path / "run", number, every=16)
        assert len(found.dropped) > 4
        assert found.unnoticed == []


@pytest.mark.slow
def test_the_oracle_fails_without_any_field(whole: Path, tmp_path: Path) -> None:
    in_warm_up, after_it, in_rollouts = (_power(whole, tmp_path / "run", number) for number in (1, 2, 4))
    assert in_warm_up.unnoticed == in_rollouts.unnoticed == []
    assert [path for path in after_it.unnoticed if not SPENT.search(path)] == []
    for found in (in_warm_up, after_it, in_rollouts):
        assert [path for path in found.same if not SAME.search(path)] == []
    assert "state/accuracy" in after_it.dropped


@pytest.mark.slow
@pytest.mark.parametrize("control", ["adaptive", "dual-bonus"])
def test_the_state_of_every_control_is_needed(control: ControlName, tmp_path: Path) -> None:
    options = replace(RLVR, control=control, target=1.5)  # above the entropy, so that the bonus is on
    run, whole = rlvr_run(options), tmp_path / "whole"
    assert run.train(whole, False, lambda: False)
    past = history(whole)
    judge = run.judge(whole, run.after(past, 4, whole), tmp_path / "run")
    assert judge(past[4]) == ""
    found = power(past[4], _fresh(past[4], options), judge, only="control")
    print(found.line(f"rlvr, {control}"))
    assert len(found.dropped) >= 2
    assert found.unnoticed == []
