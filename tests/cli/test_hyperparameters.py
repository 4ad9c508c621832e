"""Hyper-parameters from TOML files: what arrives, what flags override, what is refused."""

from __future__ import annotations

import inspect
import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3

from entroreg.benchmarks import tuned
from entroreg.benchmarks.building import build_agent, make_environment
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.cli.parsing import parse
from entroreg.benchmarks.cli.verbs import Train
from entroreg.benchmarks.options import (
    KINDS,
    AgentOptions,
    RunOptions,
    TrainDiscreteSAC,
    TrainOptions,
    TrainSAC,
)

FILES = sorted(Path(tuned.__file__).with_name("hyperparameters").glob("*.toml"))
TABLES = [
    pytest.param(path.stem, kind, table, id=f"{path.stem}-{kind}")
    for path in FILES
    for kind, table in tomllib.loads(path.read_text()).items()
]
# What the packaged files say, written out a second time: a slip in a file or in its reading shows here.
LOCOMOTION: dict[str, Any] = {"steps": 1_000_000, "learning_starts": 10_000}
EXPECTED: dict[str, tuple[str, dict[str, Any]]] = {
    "Ant-v5": ("sac", LOCOMOTION),
    "CartPole-v1": (
        "discrete-sac",
        {
            "steps": 60_000,
            "learning_rate": 1e-3,
            "batch_size": 128,
            "train_freq": 4,
            "gradient_steps": 2,
            "learning_starts": 1_000,
            "net": (64, 64),
        },
    ),
    "HalfCheetah-v5": ("sac", LOCOMOTION),
    "Hopper-v5": ("sac", LOCOMOTION),
    "Humanoid-v5": ("sac", {**LOCOMOTION, "steps": 2_000_000}),
    "InvertedPendulum-v5": ("sac", {"steps": 16_000, "learning_rate": 1e-3, "batch_size": 64, "net": (64, 64)}),
    "Pendulum-v1": ("sac", {"steps": 20_000, "learning_rate": 1e-3}),
    "Swimmer-v5": ("sac", {**LOCOMOTION, "gamma": 0.999}),
    "Walker2d-v5": ("sac", LOCOMOTION),
}


def parsed(*arguments: str) -> TrainOptions:
    command = parse(["train", *arguments])
    assert isinstance(command, Train)
    assert isinstance(command.agent, TrainSAC | TrainDiscreteSAC)
    return command.agent


def test_the_packaged_files_are_those() -> None:
    assert [path.stem for path in FILES] == sorted(EXPECTED)
    assert len(TABLES) == len(EXPECTED)


@pytest.mark.parametrize("env", EXPECTED)
def test_packaged_values_arrive_in_the_options(env: str) -> None:
    kind, values = EXPECTED[env]
    options = parsed(kind, "--env", env, "--hyperparameters", "tuned")
    agent = {key: value for key, value in values.items() if key != "steps"}
    assert options.run == RunOptions(env, hyperparameters="tuned", steps=values["steps"])
    assert options.agent == AgentOptions(**agent)
    assert type(options) is KINDS[kind]


@pytest.mark.parametrize(("env", "kind", "table"), TABLES)
def test_packaged_values_arrive_in_the_agent(env: str, kind: str, table: dict[str, Any]) -> None:
    run = RunOptions(env, hyperparameters="tuned", device="cpu", engine="eager")
    options = tuned.with_hyperparameters(KINDS[kind](run))
    options = replace(options, agent=replace(options.agent, buffer_size=100))  # Humanoid's would be gigabytes
    made = make_environment(env)
    try:
        agent = build_agent(options, made)
    finally:
        made.close()
    for key, value in table.items():
        if key == "policy":
            assert type(agent.policy) is type(agent).policy_aliases[value]
        elif key == "learning_rate":
            assert agent.actor.optimizer.param_groups[0]["lr"] == value
        elif key == "train_freq":
            assert agent.train_freq.frequency == value  # type: ignore[union-attr]
        elif key == "policy_kwargs":
            assert agent.policy_kwargs["net_arch"] == value["net_arch"]
        elif key != "n_timesteps":
            assert getattr(agent, key) == value, key


@pytest.mark.parametrize(("env", "kind", "table"), TABLES)
def test_the_names_are_those_of_rl_zoo3(env: str, kind: str, table: dict[str, Any]) -> None:
    of_sac = set(inspect.signature(stable_baselines3.SAC.__init__).parameters) - {"self", "env"}
    assert set(table) <= {"n_timesteps", *of_sac}
    assert {"n_timesteps", "policy"} <= set(table)  # rl_zoo3 does without neither
    assert tuned.packaged(kind)[env] == table


def test_packaged_tables_are_of_one_agent_and_nobody_elses_to_change() -> None:
    assert list(tuned.packaged("discrete-sac")) == ["CartPole-v1"]
    assert list(tuned.packaged("sac")) == sorted({*EXPECTED} - {"CartPole-v1"})
    tuned.packaged("sac")["Ant-v5"]["gamma"] = 0.0  # rl_zoo3 writes into what it is given
    assert "gamma" not in tuned.packaged("sac")["Ant-v5"]
    with pytest.raises(Exception, match="unknown agent 'sacc': did you mean 'sac'"):
        tuned.packaged("sacc")


ALL_KEYS = """
[sac]
gamma = 0.1

[discrete-sac]
n_timesteps = 5e3
policy = "MlpPolicy"
learning_rate = 1
buffer_size = 400
batch_size = 32
learning_starts = 0
train_freq = 3
gradient_steps = -1
gamma = 0.5
ent_coef = "auto_0.2"
target_entropy = 0.3
entropy_backup = false
policy_kwargs = { net_arch = [8, 9, 10] }
double_average_q = true
q_clip = 1
entropy_penalty = 0.25
"""


def test_every_key_of_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(ALL_KEYS)
    options = parsed("discrete-sac", "--env", "E-v0", "--hyperparameters", str(file), "--seed", "3")
    assert asdict(options.run) == asdict(RunOptions("E-v0", hyperparameters=str(file), steps=5000, seed=3))
    assert asdict(options.agent) == {
        "learning_rate": 1.0,
        "buffer_size": 400,
        "batch_size": 32,
        "learning_starts": 0,
        "train_freq": 3,
        "gradient_steps": -1,
        "gamma": 0.5,
        "ent_coef": "auto_0.2",
        "target_entropy": 0.3,
        "entropy_backup": False,
        "net": (8, 9, 10),
        "target_entropy_end": None,
        "alpha_minimum": None,
        "alpha_maximum": None,
        "alpha_learning_rate": None,
    }
    assert isinstance(options, TrainDiscreteSAC)
    assert asdict(options.discrete) == {"double_average_q": True, "q_clip": 1.0, "entropy_penalty": 0.25}
    of_sac = parsed("sac", "--env", "E-v0", "--hyperparameters", str(file))
    assert of_sac.agent == AgentOptions(gamma=0.1)


@pytest.mark.parametrize(("value", "text"), [("0.1", "0.1"), ("0", "0.0"), ('"auto"', "auto")])
def test_the_coefficient_is_a_word_or_a_number(value: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(f'[sac]\nent_coef = {value}\ntarget_entropy = "auto"')
    options = parsed("sac", "--env", "E-v0", "--hyperparameters", str(tmp_path / "my.toml"))
    assert options.agent == AgentOptions(ent_coef=text)


@pytest.mark.parametrize("flags_first", [True, False])
def test_flags_win(flags_first: bool, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(ALL_KEYS)
    file = ["--hyperparameters", str(tmp_path / "my.toml")]
    # --gamma has the value of the options' default: to be given is what counts
    flags = ["--steps", "70", "--gamma=0.99", "--net", "4", "--target-entropy", "auto", "--entropy-backup"]
    flags += ["--q-clip", "None"]
    order = flags + file if flags_first else file + flags
    options = parsed("discrete-sac", "--env", "E-v0", *order)
    assert options.run.steps == 70
    assert options.agent.gamma == 0.99
    assert options.agent.net == (4,)
    assert options.agent.target_entropy == "auto"
    assert options.agent.entropy_backup is True
    assert options.agent.batch_size == 32
    assert isinstance(options, TrainDiscreteSAC)
    assert options.discrete.q_clip is None
    assert options.discrete.entropy_penalty == 0.25


def test_without_the_flag_nothing_is_read() -> None:
    assert parsed("sac", "--env", "Pendulum-v1") == TrainSAC(RunOptions("Pendulum-v1"))
    options = TrainSAC(RunOptions("Pendulum-v1"), AgentOptions(gamma=0.5))
    assert tuned.with_hyperparameters(options) is options


def test_the_seeds_of_a_population_share_them() -> None:
    options = parsed(
        "sac", "--env", "Pendulum-v1", "--hyperparameters", "tuned", "--seeds", "2", "--population", "--steps", "9"
    )
    assert options.run.population
    assert (options.run.steps, options.agent.learning_rate) == (9, 1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gama = 0.9", "my.toml: unknown hyper-parameter 'gama': did you mean 'gamma'"),
        ("tau = 0.01", "my.toml: unknown hyper-parameter 'tau': there is batch_size, buffer_size"),
        ("q_clip = 0.5", "my.toml: unknown hyper-parameter 'q_clip'"),
        ('gamma = "high"', "my.toml: gamma: must be a number, got 'high'"),
        ("gamma = true", "my.toml: gamma: must be a number, got True"),
        ("gamma = 1.5", "my.toml: gamma: gamma must be in [0, 1], got 1.5"),
        ("gamma = nan", "my.toml: gamma: gamma must be in [0, 1], got nan"),
        ('learning_rate = "lin_7.3e-4"', "my.toml: learning_rate: must be a number, got 'lin_7.3e-4'"),
        ("learning_rate = 0", "my.toml: learning_rate: learning_rate must be finite and above 0, got 0.0"),
        (f"learning_rate = 1{'0' * 400}", "my.toml: learning_rate: int too large"),
        ("n_timesteps = 0", "my.toml: n_timesteps: steps must be at least 1, got 0"),
        ("n_timesteps = 10.5", "my.toml: n_timesteps: must be a whole number, got 10.5"),
        ("n_timesteps = inf", "my.toml: n_timesteps: must be a whole number, got inf"),
        ("batch_size = true", "my.toml: batch_size: must be a whole number, got True"),
        ('train_freq = [1, "episode"]', "my.toml: train_freq: must be a whole number, got [1, 'episode']"),
        ('policy = "CnnPolicy"', "my.toml: policy: must be 'MlpPolicy' or 'MultiInputPolicy'"),
        ("policy = []", "my.toml: policy: must be 'MlpPolicy' or 'MultiInputPolicy'"),
        ('ent_coef = "high"', "my.toml: ent_coef: must be 'auto', 'auto_INITIAL' or a number, got 'high'"),
        ("ent_coef = [1]", "my.toml: ent_coef: must be a number, got [1]"),
        ('target_entropy = "low"', "my.toml: target_entropy: must be 'auto' or a number, got 'low'"),
        ("target_entropy = {}", "my.toml: target_entropy: must be a number, got {}"),
        ("entropy_backup = 1", "my.toml: entropy_backup: must be true or false, got 1"),
        ("policy_kwargs = 64", "my.toml: policy_kwargs: must be of the form { net_arch = [64, 64] }, got 64"),
        ("policy_kwargs = {}", "my.toml: policy_kwargs: must be of the form { net_arch = [64, 64] }, got {}"),
        ("policy_kwargs = { net = [4] }", "must be of the form { net_arch = [64, 64] }, got {'net': [4]}"),
        ("policy_kwargs = { net_arch = { pi = [4] } }", "must be of the form { net_arch = [64, 64] }"),
        ("policy_kwargs = { net_arch = [4], n_critics = 3 }", "must be of the form { net_arch = [64, 64] }"),
        ('policy_kwargs = { net_arch = ["wide"] }', "my.toml: policy_kwargs: must be a whole number, got 'wide'"),
        ("policy_kwargs = { net_arch = [0] }", "my.toml: policy_kwargs: net must hold widths of at least 1"),
        ("gamma 0.9", "my.toml must be TOML, got: Expected '=' after a key"),
        ("gamma = 0.9\ngamma = 0.9", "my.toml must be TOML, got: Cannot overwrite a value"),
        ("[sacc]", "my.toml: unknown table 'sacc': did you mean 'sac'"),
    ],
)
def test_a_wrong_line_is_named(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my.toml").write_text(f"[sac]\n{text}\n")
    refused(["--env", "Pendulum-v1", "--hyperparameters", "my.toml"], message, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "my.toml must have a table [sac], got none"),
        (b"[discrete-sac]", "my.toml must have a table [sac], got [discrete-sac]"),
        (b"sac = 3", "my.toml: sac must be a table, [sac], got 3"),
        (b"gamma = 0.9", "my.toml: unknown table 'gamma': there is discrete-sac, sac"),
        (b"\xff\xfe", "my.toml must be TOML, got: 'utf-8' codec"),
    ],
)
def test_a_wrong_file_is_named(
    content: bytes,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my.toml").write_bytes(content)
    refused(["--env", "Pendulum-v1", "--hyperparameters", "my.toml"], message, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "Reacher-v5", "--hyperparameters", "tuned"], f"Reacher-v5, only for {', '.join(EXPECTED)}: "),
        (["--env", "../my", "--hyperparameters", "tuned"], "no tuned hyper-parameters for ../my, only for Ant-v5"),
        (["--env", "CartPole-v1", "--hyperparameters", "tuned"], "must have a table [sac], got [discrete-sac]"),
        (["--env", "Ant-v5", "--hyperparameters", "tund"], "must be 'tuned' or a TOML file, got 'tund': No such"),
        (["--env", "Ant-v5", "--hyperparameters", "."], "must be 'tuned' or a TOML file, got '.': Is a directory"),
        (["--env", "Ant-v5", "--hyperparameters", "tuned", "--gamma", "2"], "gamma must be in [0, 1], got 2.0"),
    ],
)
def test_a_wrong_name_is_refused(
    flags: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my.toml").write_text("[sac]")
    refused(flags, message, tmp_path, monkeypatch, capsys)


def refused(
    flags: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Check that the command ends with exit code 2, one line on stderr and nothing written."""
    monkeypatch.chdir(folder)
    short = ["--steps", "120", "--eval-episodes", "1"]  # for the day when it is not refused
    assert main(["train", "sac", *flags, *short]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("entroreg: error: ")
    assert message in err
    assert [path.name for path in folder.iterdir()] == ["my.toml"]


def test_a_run_with_a_file_writes_down_what_it_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--hyperparameters", "tuned", "--steps", "150", "--eval-episodes", "1", "--threads", "1", "--json"]
    assert main(["train", "sac", "--env", "InvertedPendulum-v5", *flags, "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 150
    config = json.loads((Path(result["folder"]) / "config.json").read_text())
    assert config["run"]["hyperparameters"] == "tuned"
    assert (config["agent"]["batch_size"], config["agent"]["net"]) == (64, [64, 64])
    assert main(["eval", result["folder"], "--episodes", "1", "--json"]) == 0
