"""A user's mistake: one line on stderr, the right exit code, nothing written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks.cli import main
from entroreg.benchmarks.cli.running import checkpoint_errors_as_user_errors
from entroreg.benchmarks.errors import MISSING, UserError
from entroreg.checkpoint import CheckpointError, UnfitCheckpointError

PENDULUM = ("train", "sac", "--env", "Pendulum-v1", "--steps", "200")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "train"),
        (("trane",), "trane"),
        (("train", "sacc"), "sacc"),
        (("train", "sac"), "--env"),
        (("train", "sac", "--env", "Pendulm-v1"), "did you mean 'Pendulum-v1'"),
        (("train", "sac", "--env", "CartPole-v1"), "use 'entroreg train discrete-sac'"),
        (("train", "discrete-sac", "--env", "Pendulum-v1"), "use 'entroreg train sac'"),
        ((*PENDULUM, "--lerning-rate", "3"), "did you mean --learning-rate?"),
        ((*PENDULUM, "--learning-rate", "abc"), "abc"),
        ((*PENDULUM, "--learning-rate", "-1"), "learning_rate must be finite and above 0, got -1.0"),
        ((*PENDULUM, "--gamma", "1.5"), "gamma must be in [0, 1], got 1.5"),
        ((*PENDULUM, "--net", "0"), "net must hold widths of at least 1"),
        ((*PENDULUM, "--gradient-steps", "0"), "gradient_steps must be at least 1, or -1, got 0"),
        (("train", "sac", "--env", "Pendulum-v1", "--steps", "0"), "steps must be at least 1, got 0"),
        ((*PENDULUM, "--target-entropy", "0.7"), "target entropy must be below 0.6931 nats"),
        ((*PENDULUM, "--target-entropy-end", "2"), "target entropy must be below 0.6931 nats"),
        ((*PENDULUM, "--ent-coef", "-0.1"), "ent_coef must be finite and at least 0, got -0.1"),
        ((*PENDULUM, "--ent-coef", "automatic"), "ent_coef must be"),
        ((*PENDULUM, "--ent-coef", "0.1", "--alpha-maximum", "1"), "ent_coef must be 'auto' when"),
        ((*PENDULUM, "--alpha-minimum", "2", "--alpha-maximum", "1"), "minimum must not exceed maximum"),
        ((*PENDULUM, "--device", "tpu9"), "tpu9"),
        ((*PENDULUM, "--device", "cuda:7"), "torch finds no CUDA device"),
        ((*PENDULUM, "--learning-rate", "inf"), "learning_rate must be finite and above 0, got inf"),
        ((*PENDULUM, "--alpha-learning-rate", "0"), "alpha_learning_rate must be finite and above 0, got 0.0"),
        ((*PENDULUM, "--ent-coef", "automatic", "--alpha-maximum", "2"), "ent_coef must be"),
        (("train", "sac", "--env", ""), "env must be the id of an environment"),
        (("train", "discrete-sac", "--env", "Blackjack-v1"), "the agent cannot be built: "),
        ((*PENDULUM, "--out", "a-file/runs"), "run folder must be writable"),
        (("eval", "a-file"), "a-file must be a run folder"),
        (("eval", "nowhere"), "nowhere must be a run folder"),
        (("eval", ".", "--episodes", "0"), "episodes must be at least 1, got 0"),
        (("bench", "run", "sacc"), "unknown suite 'sacc': did you mean 'sac'"),
        (("bench", "run", "sac", "--preset", "huge"), "huge"),
        (("bench", "run", "sac", "--jobs", "0"), "jobs must be at least 1, got 0"),
    ],
)
def test_usage_errors(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("in the way")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("entroreg: error: ")
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_an_environment_whose_package_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # gymnasium's, that there is a newer version
        assert main(["train", "sac", "--env", "HalfCheetah-v3"]) == 3
    assert capsys.readouterr().err.startswith("entroreg: error: HalfCheetah-v3 needs a package that is not here")


def test_damaged_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"kind": "sac"}')
    assert main(["eval", str(tmp_path)]) == 2
    assert "must be written by 'entroreg train'" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("not json")
    assert main(["eval", str(tmp_path)]) == 2


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


@pytest.mark.parametrize(("package", "extra"), [("tyro", "entroreg[bench]"), ("stable_baselines3", "entroreg[rl]")])
def test_a_missing_extra_names_its_pip_line(package: str, extra: str, command: Any) -> None:
    done = command(*PENDULUM, before=BLOCK.format(name=package))
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert f"pip install '{extra}'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [CheckpointError("a block is torn"), UnfitCheckpointError("of another agent")])
def test_a_checkpoint_that_is_no_good_is_missing(error: Exception) -> None:
    with pytest.raises(UserError, match=f"^{error}$") as caught, checkpoint_errors_as_user_errors():
        raise error
    assert caught.value.exit_code == MISSING
