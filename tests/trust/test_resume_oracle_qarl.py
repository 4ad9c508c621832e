"""An adversarial training goes on exactly from each of its checkpoints, and needs every field of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import FLOOR, QARL, qarl_run
from run_history import Power, Saved, compare, history, power, stop_after

from entroreg import GammaCurriculum
from entroreg.agents.adversarial import PlayerSettings, TwoPlayers
from entroreg.agents.adversarial.players import TEMPERATURE
from entroreg.benchmarks.robust.building import build_training
from entroreg.envs import Forces

RUN = qarl_run()
TELLING = 9  # a checkpoint all of whose fields matter


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("qarl") / "whole"
    assert RUN.train(folder, False, lambda: False)
    return folder


def _states(past: list[Saved]) -> list[Any]:
    return [saved.content["state"] for saved in past]


def test_the_undisturbed_run_is_one_that_can_tell(whole: Path) -> None:
    telling = _states(history(whole))[TELLING]
    assert telling["iterations"] == TELLING + 1
    curriculum = telling["curriculum"]
    assert curriculum["pairs"], "some pairs must wait"
    assert curriculum["shape"] != 50.0, "the curriculum must have moved"
    assert curriculum["held_back"] == 1, "and it must have been held back"
    for player in ("protagonist", "adversary"):
        memory = telling[player]["memory"]
        assert memory["full"], "the memory must have come round"
        assert memory["pos"]
    assert _states(history(whole))[-1]["curriculum"]["updates"] > curriculum["updates"]


def test_a_run_stopped_again_and_again_is_the_undisturbed_one(whole: Path, tmp_path: Path) -> None:
    # It asks after each of some 30 steps of an iteration. So it stops in the first turns of the adversary and of
    # the protagonist, in later ones, where the memories have come round, and in the evaluation at the end.
    found = RUN.stopped_again_and_again(tmp_path / "stopped", (4, 25, 60, 75, 85, 199, 54))
    trained = found[1:]  # the first stop was before any training
    compared = compare([*history(whole), RUN.outcome(whole)], trained)
    print(compared.line("qarl, stopped"))
    assert compared.differing == {}


@pytest.mark.parametrize("asks", [60, 85, 300])
def test_a_stop_saves_the_training_as_it_was_before_the_iteration(asks: int, whole: Path, tmp_path: Path) -> None:
    run = qarl_run(replace(QARL, run=replace(QARL.run, checkpoint_every=1_000)))
    assert not run.train(tmp_path / "stopped", False, stop_after(asks))
    (saved,) = history(tmp_path / "stopped")
    iterations = saved.content["state"]["iterations"]
    assert 0 < iterations < TELLING
    assert compare([history(whole)[iterations - 1]], [saved]).differing == {}


@pytest.mark.parametrize("number", [1, TELLING])
def test_it_goes_on_from_a_checkpoint(number: int, whole: Path, tmp_path: Path) -> None:
    past = history(whole)
    go_on = RUN.go_on_in_a_fresh_process if number == TELLING else RUN.go_on
    compared = compare(RUN.after(past, number, whole), go_on(whole, past[number], tmp_path / "run"))
    print(compared.line(f"qarl, from checkpoint {number + 1} of {len(past)}"))
    assert compared.differing == {}


@pytest.mark.slow
def test_it_goes_on_from_every_checkpoint(whole: Path, tmp_path: Path) -> None:
    past = history(whole)
    for number, saved in enumerate(past):
        compared = compare(RUN.after(past, number, whole), RUN.go_on(whole, saved, tmp_path / "run"))
        print(compared.line(f"qarl, from checkpoint {number + 1} of {len(past)}"))
        assert compared.differing == {}


def _power(whole: Path, folder: Path, every: int = 1) -> Power:
    build_training(QARL, FLOOR).save(folder / "fresh")
    fresh = Saved.read(folder / "fresh")
    fresh.content["arguments"] = {}
    past = history(whole)
    judge = RUN.judge(whole, RUN.after(past, TELLING, whole), folder / "run")
    found = power(past[TELLING], fresh, judge, every)
    print(found.line(f"qarl, checkpoint {TELLING + 1} of {len(past)}"))
    return found


# The settings of optimisers; a watch that has seen nothing yet; when the engine starts, which nobody has changed; a
# coefficient that is the episode's temperature has no state.
SAME = re.compile(r"/param_groups/|/entropy_watch/|/counters/engine_starts$|^state/adversary/controller$")
# Settings that a fresh training has by default, too; the test below asks of each whether it counts.
DEFAULT = re.compile(r"^arguments/")


def test_the_oracle_fails_without_a_field(whole: Path, tmp_path: Path) -> None:
    found = _power(whole, tmp_path, every=40)
    assert len(found.dropped) > 4
    assert [path for path in found.unnoticed if not DEFAULT.search(path)] == []


@pytest.mark.slow
def test_the_oracle_fails_without_any_field(whole: Path, tmp_path: Path) -> None:
    found = _power(whole, tmp_path)
    assert [path for path in found.unnoticed if not DEFAULT.search(path)] == []
    assert [path for path in found.same if not SAME.search(path)] == []


SETTINGS = PlayerSettings(
    learning_rate=1e-2,
    buffer_size=20,
    learning_starts=6,
    batch_size=4,
    tau=0.1,
    gamma=0.9,
    train_freq=2,
    gradient_steps=2,
    net=(4,),
    ent_coef="0.2",
    engine="eager",
    langevin_noise=0.1,
    device="cpu",
)
HERE_THE_SAME = re.compile(r"/device$")  # without a GPU, "auto" is the CPU


@pytest.mark.slow
def test_every_argument_of_a_training_counts(tmp_path: Path) -> None:
    curriculum = GammaCurriculum(1.5, shape=3.0, target_shape=20.0, rate=10.0, max_kl=0.3, samples=12)
    forces = Forces({"pole": ("Fx", "Fz")}, 2.0, region=((-0.001, 9.0), (-9.0, 9.0)))
    agent = TwoPlayers(
        "InvertedPendulum-v5",
        curriculum,
        forces=forces,
        protagonist=SETTINGS,
        adversary=replace(SETTINGS, ent_coef=TEMPERATURE),
        episodes=2,
        episode_steps=4,
        scales_force=True,
        seed=5,
    ).learn(1, on_iteration=lambda agent: False)
    agent.learn(1, reset_num_timesteps=False, on_iteration=lambda agent: False)
    agent.save(tmp_path / "saved")
    saved, expected = Saved.read(tmp_path / "saved"), _following(agent, tmp_path)

    def judge(changed: Saved) -> str:
        changed.write(tmp_path / "changed")
        try:
            found = _following(TwoPlayers.load(tmp_path / "changed"), tmp_path)
        except (KeyError, TypeError, ValueError):
            return "an error"
        return "a difference" if compare(expected, found).largest > 0.0 else ""

    fresh = Saved({**saved.content, "arguments": {}}, saved.tables)
    found = power(saved, fresh, judge, only="arguments")
    print(found.line("qarl, the arguments of a training"))
    assert found.same == []
    assert [path for path in found.unnoticed if not HERE_THE_SAME.search(path)] == []


def _following(agent: TwoPlayers, folder: Path) -> list[Any]:
    """Return the states after each of three more iterations."""
    states = []
    for _ in range(3):
        agent.learn(1, reset_num_timesteps=False, on_iteration=lambda agent: False)
        agent.save(folder / "after")
        states.append(Saved.read(folder / "after").content["state"])
    return states
