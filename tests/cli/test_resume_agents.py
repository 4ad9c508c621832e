"""``--resume`` and ``entroreg resume`` of SAC, DiscreteSAC and populations: the same result as if never stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from safetensors.torch import save_file

from entroreg.agents import SAC, ResumableTraining
from entroreg.agents.agent_checkpoint import learned_state
from entroreg.agents.training_checkpoint import TrainingCheckpoint
from entroreg.benchmarks import training
from entroreg.benchmarks.cli import main
from entroreg.checkpoint import load_checkpoint
from entroreg.state_tree import split_state

Command = Callable[..., Any]

SMALL = ["--net", "8", "--batch-size", "8", "--learning-starts", "60", "--eval-episodes", "2", "--threads", "1"]
OFTEN = ["--checkpoint-every", "30"]
SAC_RUN = ["train", "sac", "--env", "InvertedPendulum-v5", "--steps", "160", *SMALL, *OFTEN]
DISCRETE = ["train", "discrete-sac", "--env", "CartPole-v1", "--steps", "140", *SMALL, *OFTEN]
PAIR = [*SAC_RUN, "--population", "--seeds", "2"]


def _folder(out: Path, seed: int = 0, agent: str = "sac", env: str = "InvertedPendulum-v5") -> Path:
    return out / "train" / agent / env / f"seed-{seed}"


def _outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves, but for what a clock has said."""
    result = json.loads((folder / "result.json").read_text())
    tensors, metadata = load_checkpoint(folder / "checkpoints" / "last")
    learned = {name: tensor.tolist() for name, tensor in tensors.items() if name.startswith(("learned", "random"))}
    return {
        "result": {name: value for name, value in result.items() if "second" not in name},
        "rows": (folder / "metrics.jsonl").read_bytes(),
        "learned": learned,
        "steps": metadata["num_timesteps"],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Path]:
    """Runs what was not stopped, once for each command, and returns its --out."""
    done: dict[str, Path] = {}

    def run(command: list[str]) -> Path:
        key = " ".join(command)
        if key not in done:
            done[key] = tmp_path_factory.mktemp("whole")
            assert main([*command, "--out", str(done[key])]) == 0
        return done[key]

    return run


def _at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[], Any]) -> None:
    """Do something when a rollout begins at a step."""
    begin = ResumableTraining._on_rollout_start

    def watched(callback: ResumableTraining) -> None:
        if callback.model.num_timesteps == step:
            act()
        begin(callback)

    patch.setattr(ResumableTraining, "_on_rollout_start", watched)


def _in_evaluation(patch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    returns = training.episode_returns

    def watched(*given: Any, **more: Any) -> list[float]:
        patch.setattr(training, "episode_returns", returns)
        act()
        return returns(*given, **more)

    patch.setattr(training, "episode_returns", watched)


def _in_save(patch: pytest.MonkeyPatch, number: int, act: Callable[[], Any]) -> None:
    """Do something while the n-th checkpoint is being written."""
    saves, fsync = itertools.count(1), os.fsync

    def watched(file: int) -> None:
        if "tensors.safetensors" in os.readlink(f"/proc/self/fd/{file}") and next(saves) == number:
            act()
        fsync(file)

    patch.setattr(os, "fsync", watched)


@pytest.mark.parametrize(
    ("command", "agent", "env", "number", "code"),
    [
        (SAC_RUN, "sac", "InvertedPendulum-v5", signal.SIGTERM, 75),
        (DISCRETE, "discrete-sac", "CartPole-v1", signal.SIGINT, 130),
    ],
)
def test_a_run_that_is_stopped_everywhere(
    command: list[str],
    agent: str,
    env: str,
    number: signal.Signals,
    code: int,
    whole: Callable[[list[str]], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = _folder(tmp_path, 0, agent, env)
    last = folder / "checkpoints" / "last"

    def stop() -> None:
        os.kill(os.getpid(), number)

    for place, arguments in (
        (lambda patch: _at_step(patch, 17, stop), [*command, "--out", str(tmp_path)]),  # in the warm-up
        (lambda patch: _at_step(patch, 101, stop), [*command, "--out", str(tmp_path), "--resume"]),
        (lambda patch: _in_save(patch, 1, stop), ["resume", str(folder)]),  # at 120
        (lambda patch: _in_evaluation(patch, stop), ["resume", str(folder)]),
    ):
        with pytest.MonkeyPatch.context() as patch:
            place(patch)
            assert main(arguments) == code
        err = capsys.readouterr().err
        assert err.splitlines()[-1] == f"stopped; the checkpoint is in {last}"
        assert not (folder / "result.json").exists()
    assert main(["resume", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == _outcome(folder)["result"]["returns"]
    assert _outcome(folder) == _outcome(_folder(whole(command), 0, agent, env))


def test_a_run_that_is_killed(whole: Callable[[list[str]], Path], tmp_path: Path, command: Command) -> None:
    kill = """
import os, signal
from entroreg.benchmarks.monitor import EpisodeRecorder
write = EpisodeRecorder._write
def killed(recorder, episode):
    write(recorder, episode)
    if recorder.num_timesteps > 100:
        os.kill(os.getpid(), signal.SIGKILL)
EpisodeRecorder._write = killed
"""
    assert command(*SAC_RUN, "--out", str(tmp_path), before=kill).returncode == -signal.SIGKILL
    folder = _folder(tmp_path)
    assert 60 <= load_checkpoint(folder / "checkpoints" / "last")[1]["num_timesteps"] <= 100
    with (folder / "metrics.jsonl").open("a") as rows:
        rows.write('{"step": 1')  # torn
    (folder / ".config.json.0123.tmp").touch()
    (folder / "checkpoints" / f".last.{'0' * 32}.saving").mkdir()
    assert main(["resume", str(folder)]) == 0
    assert _outcome(folder) == _outcome(_folder(whole(SAC_RUN)))
    assert not [*folder.rglob(".*")]


def test_a_run_that_ends_between_its_last_checkpoint_and_its_result(
    whole: Callable[[list[str]], Path], tmp_path: Path
) -> None:
    save = TrainingCheckpoint.save

    def saved(checkpoint: TrainingCheckpoint, notes: Any) -> None:
        save(checkpoint, notes)
        if checkpoint._agent.num_timesteps == 160:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingCheckpoint, "save", saved)
        assert main([*SAC_RUN, "--out", str(tmp_path)]) == 130
    assert main(["resume", str(_folder(tmp_path))]) == 0
    assert _outcome(_folder(tmp_path)) == _outcome(_folder(whole(SAC_RUN)))
    assert (_folder(tmp_path) / "model.zip").exists()


def test_as_many_older_checkpoints_as_asked_for(tmp_path: Path) -> None:
    assert main([*SAC_RUN, "--out", str(tmp_path), "--keep", "3"]) == 0
    checkpoints = _folder(tmp_path) / "checkpoints"
    steps = {path.name: load_checkpoint(path)[1]["num_timesteps"] for path in checkpoints.iterdir()}
    assert steps == {"last": 160, "last.previous": 150, "last.previous.2": 120, "last.previous.3": 90}


def _stopped(tmp_path: Path, command: list[str] = SAC_RUN, step: int = 101) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        _at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main([*command, "--out", str(tmp_path)]) == 75
    return _folder(tmp_path)


def test_what_is_refused(
    whole: Callable[[list[str]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _stopped(tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = [*SAC_RUN, "--out", str(tmp_path)]
    as_started = "to go on with the run in"
    for more, message in (
        ([], "holds the checkpoint of a run that was stopped"),
        (["--resume", "--overwrite"], "overwrite and resume exclude each other"),
        (["--resume", "--learning-rate", "0.01"], f"learning_rate must be 0.0003 {as_started}"),
        (["--resume", "--steps", "170"], f"steps must be 160 {as_started}"),
        (["--resume", "--engine", "eager"], f"engine must be 'auto' {as_started}"),
    ):
        capsys.readouterr()
        assert main([*again, *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert {path: path.read_bytes() for path in before} == before
    (folder / "metrics.jsonl").write_text("")
    assert main([*again, "--resume"]) == 3
    assert "rows that the checkpoint counts, got 0" in capsys.readouterr().err.splitlines()[-1]


def test_a_finished_run_is_left_as_it_is(
    whole: Callable[[list[str]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = whole(SAC_RUN)
    before = {path: path.stat().st_mtime_ns for path in _folder(out).rglob("*")}
    result = json.loads((_folder(out) / "result.json").read_text())
    for arguments in (["resume", str(_folder(out))], [*SAC_RUN, "--resume", "--out", str(out)]):
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {**result, "folder": str(_folder(out))}
    assert {path: path.stat().st_mtime_ns for path in _folder(out).rglob("*")} == before


def test_the_config_of_an_earlier_run(whole: Callable[[list[str]], Path], tmp_path: Path) -> None:
    folder = _stopped(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for name in ("keep", "resume"):
        del config["run"][name]
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["resume", str(folder)]) == 0
    assert _outcome(folder) == _outcome(_folder(whole(SAC_RUN)))


def test_the_checkpoint_of_an_earlier_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _stopped(tmp_path)
    agent, _, _ = training.load_run(folder, json.loads((folder / "config.json").read_text()))
    assert isinstance(agent, SAC)
    shutil.rmtree(folder / "checkpoints")
    _write_as_before(agent, folder / "checkpoints" / "last")
    assert main(["eval", str(folder), "--episodes", "2"]) == 0
    for arguments in (["resume", str(folder)], [*SAC_RUN, "--resume", "--out", str(tmp_path)]):
        capsys.readouterr()
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "holds an agent for prediction only, of an earlier entroreg: evaluate it, or begin anew with" in line


def _write_as_before(agent: SAC, folder: Path) -> None:
    """Write the checkpoint that entroreg wrote when it held nothing but what was learned."""
    tensors, tree = split_state(learned_state(agent))
    metadata = {"agent": "SAC", "num_timesteps": agent.num_timesteps, "n_updates": agent._n_updates}
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "tensors.safetensors")
    (folder / "metadata.json").write_text(json.dumps({**metadata, "engine_starts": 5000, "state": tree}))
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
    }
    (folder / "manifest.json").write_text(json.dumps({"schema_version": 1, "files": files}))


class Unseen(gym.Env[Any, Any]):
    """Counts with an iterator, whose state cannot be seen."""

    observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count: Iterator[int] = itertools.count(int(self.np_random.integers(5)))
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        at = next(self.count)
        return np.full(1, at / 20, np.float32), float(action[0]) * at, False, at == 16, {}


def test_an_environment_whose_state_cannot_be_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gym.register("Unseen-v0", Unseen)
    command = ["train", "sac", "--env", "Unseen-v0", "--steps", "157", *SMALL, *OFTEN]
    try:
        assert main([*command, "--out", str(tmp_path / "whole")]) == 0
        (told,) = [line for line in capsys.readouterr().err.splitlines() if "between episodes" in line]
        assert "env.count must be plain data, got itertools.count, whose state cannot be seen" in told
        with pytest.MonkeyPatch.context() as patch:
            _at_step(patch, 103, lambda: os.kill(os.getpid(), signal.SIGTERM))
            assert main([*command, "--out", str(tmp_path)]) == 75
        folder = _folder(tmp_path, env="Unseen-v0")
        assert 60 < load_checkpoint(folder / "checkpoints" / "last")[1]["num_timesteps"] < 103
        assert main(["resume", str(folder)]) == 0
        found, expected = _outcome(folder), _outcome(_folder(tmp_path / "whole", env="Unseen-v0"))
        assert found == expected
        assert found["steps"] == 157
        ended = load_checkpoint(folder / "checkpoints" / "last")[1]["training"]
        assert list(ended) == ["learned"], "it was to end within an episode"
        capsys.readouterr()
        assert main(["eval", str(folder), "--episodes", "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["returns"] == found["result"]["returns"]
    finally:
        del gym.registry["Unseen-v0"]


def test_a_population_goes_on(
    whole: Callable[[list[str]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _stopped(tmp_path, PAIR)
    first, second = (_folder(tmp_path, seed) / "checkpoints" for seed in (0, 1))
    assert [load_checkpoint(at / "last")[1]["num_timesteps"] for at in (first, second)] == [102, 102]
    # As if it had been killed between the two saves.
    shutil.rmtree(second / "last")
    (second / "last.previous").rename(second / "last")
    assert main(["resume", str(first.parent)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "is of the seeds 0, 1 trained together: go on with" in line
    assert "--population --seed 0 --seeds 2 --resume" in line
    with pytest.MonkeyPatch.context() as patch:
        _at_step(patch, 90, lambda: _assert_alone(first, 90))
        _in_evaluation(patch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main([*PAIR, "--resume", "--out", str(tmp_path)]) == 75
    assert main([*PAIR, "--resume", "--out", str(tmp_path)]) == 0
    for seed in (0, 1):
        assert _outcome(_folder(tmp_path, seed)) == _outcome(_folder(whole(PAIR), seed))


def _assert_alone(checkpoints: Path, step: int) -> None:
    """The newest checkpoint that can be seen is of a step."""
    assert load_checkpoint(checkpoints / "last")[1]["num_timesteps"] == step


def test_seeds_without_a_common_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _stopped(tmp_path, PAIR)
    last = _folder(tmp_path, 1) / "checkpoints" / "last"
    shutil.rmtree(last)
    shutil.rmtree(last.with_name("last.previous"))
    before = (_folder(tmp_path) / "metrics.jsonl").read_bytes()
    assert main([*PAIR, "--resume", "--out", str(tmp_path)]) == 2
    assert "must have checkpoints of a common step to go on together, got 102, none" in capsys.readouterr().err
    assert (_folder(tmp_path) / "metrics.jsonl").read_bytes() == before


def test_a_population_does_not_go_on_with_what_was_trained_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            _at_step(patch, 31, lambda: os.kill(os.getpid(), signal.SIGTERM))
            assert main([*SAC_RUN, "--seed", seed, "--out", str(tmp_path)]) == 75
    assert main([*PAIR, "--resume", "--out", str(tmp_path)]) == 2
    assert "is of an agent that was trained alone: go on without --population" in capsys.readouterr().err
