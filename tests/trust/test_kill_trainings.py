"""The trainings that are killed: the command's own, and Stable-Baselines3's as it is usually saved and loaded."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from killing import KILLS, killed
from stable_baselines3 import SAC

from entroreg.benchmarks.suites.trust import KILLED, totals_of
from entroreg.benchmarks.trust.stock import METHODS, of_stock
from entroreg.benchmarks.trust.trainings import BUFFER_SIZE, EVERY, SAC_STEPS, of_command

NAMES = {
    "sb3": ("model.zip", "buffer.pkl"),
    "sb3-callback": ("rl_model_200_steps.zip", "rl_model_replay_buffer_200_steps.pkl"),
}


@pytest.fixture(scope="module", params=METHODS)
def stock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A method, and the folder of its training."""
    folder = tmp_path_factory.mktemp(request.param)
    assert of_stock(request.param, "smoke").start(folder) == 0
    return request.param, folder


def _copy(stock: tuple[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(stock[1], tmp_path / "copy")


def test_stock_has_the_settings_of_ours(stock: tuple[str, Path], tmp_path: Path) -> None:
    import entroreg.benchmarks.options as options
    from entroreg.benchmarks.building import build_agent, make_environment
    from entroreg.benchmarks.cli.parsing import parse

    arguments = of_command("sac", "smoke", tmp_path).start.args[0]  # type: ignore[attr-defined]
    asked = parse(arguments).agent  # type: ignore[union-attr]
    assert isinstance(asked, options.TrainSAC)
    assert (asked.run.checkpoint_every, asked.run.steps) == (EVERY, SAC_STEPS["smoke"])
    ours = build_agent(asked, make_environment(asked.run.env))
    theirs = SAC.load(stock[1] / NAMES[stock[0]][0], device="cpu")
    names = (
        "batch_size",
        "buffer_size",
        "gamma",
        "learning_rate",
        "learning_starts",
        "seed",
        "tau",
        "gradient_steps",
    )
    for name in (*names, "target_entropy", "train_freq"):
        assert getattr(ours, name) == getattr(theirs, name), name
    shapes = [{name: part.shape for name, part in agent.policy.state_dict().items()} for agent in (ours, theirs)]
    assert shapes[0] == shapes[1]
    large = parse([*arguments, "--steps", "2000"])
    assert large.agent.agent.buffer_size == BUFFER_SIZE < SAC_STEPS["small"]  # type: ignore[union-attr]


def test_a_whole_stock_run_is_whole(stock: tuple[str, Path]) -> None:
    training = of_stock(stock[0], "smoke")
    assert training.inspect(stock[1]) == ((), False, False)
    assert training.saves(stock[1]) == frozenset()
    assert sorted(training.outcome(stock[1])) == ["replay", "result.json", "weights"]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_what_a_kill_cuts_off_is_corrupt(stock: tuple[str, Path], which: int, kept: float, tmp_path: Path) -> None:
    folder, name = _copy(stock, tmp_path), NAMES[stock[0]][which]
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(kept * len(data))])
    training = of_stock(stock[0], "smoke")
    assert training.inspect(folder) == ((name,), False, False)
    (folder / name).unlink()
    assert training.inspect(folder) == ((), False, stock[0] == "sb3")


def test_a_model_and_a_buffer_of_different_saves_are_mismatched(stock: tuple[str, Path], tmp_path: Path) -> None:
    folder = _copy(stock, tmp_path)
    path = folder / NAMES[stock[0]][1]
    buffer = pickle.loads(path.read_bytes())
    assert 0 < SAC_STEPS["smoke"] - buffer.size() < EVERY / 2  # a step is not stored yet when a callback saves
    buffer.pos -= EVERY
    path.write_bytes(pickle.dumps(buffer))
    assert of_stock(stock[0], "smoke").inspect(folder) == ((), False, True)


def test_stock_goes_on_from_what_loads(tmp_path: Path) -> None:
    training = of_stock("sb3-callback", "smoke")
    assert training.start(tmp_path) == 0
    newest = tmp_path / "rl_model_200_steps.zip"
    written = newest.stat().st_mtime_ns
    (tmp_path / "result.json").unlink()
    assert training.start(tmp_path) == 0
    assert newest.stat().st_mtime_ns == written  # nothing was left to train
    (tmp_path / "result.json").unlink()
    newest.write_bytes(newest.read_bytes()[:100])
    old = (tmp_path / "rl_model_100_steps.zip").stat().st_mtime_ns
    assert training.start(tmp_path) == 0
    assert training.inspect(tmp_path) == ((), False, False)
    assert (tmp_path / "rl_model_100_steps.zip").stat().st_mtime_ns == old  # it did not begin anew


def test_stock_cannot_go_on_where_its_only_model_is_cut_off(tmp_path: Path) -> None:
    training = of_stock("sb3", "smoke")
    assert training.start(tmp_path) == 0
    (tmp_path / "result.json").unlink()
    (tmp_path / "model.zip").write_bytes((tmp_path / "model.zip").read_bytes()[:100])
    with pytest.raises(ValueError, match="wasn't a zip-file"):
        training.start(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("task", KILLED)
def test_ours_survive_kills(task: str, tmp_path: Path) -> None:
    found = killed(task, "entroreg", tmp_path)
    totals = totals_of(found)
    assert found["undisturbed"]["repeats"]
    assert totals["inside_save"] > 0
    assert totals["resumed"] == totals["kills"] == KILLS
    assert totals["identical"] == totals["runs"] > 0
    assert (totals["corrupt"], totals["begun_anew"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_stock_does_not_survive_kills_unchanged(tmp_path: Path) -> None:
    found = killed("sac", "sb3", tmp_path)
    totals = totals_of(found)
    assert found["undisturbed"]["repeats"]  # what differs comes of the kills
    assert totals["corrupt"] > 0
    assert totals["identical"] < totals["runs"]
