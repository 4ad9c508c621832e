"""rl_zoo3 trains our agents with our files of hyper-parameters, by the two scripts that docs/rl_zoo3.md shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entroreg.agents import SAC, DiscreteSAC
from entroreg.benchmarks.tuned import packaged

pytest.importorskip("rl_zoo3", reason="not among our dependencies: pip install rl_zoo3")

PAGE = Path(__file__).parents[2] / "docs" / "rl_zoo3.md"
STEPS = 400


def train(algo: str, env: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the page's scripts in a process of its own, as its reader would."""
    trainer, config = re.findall(r"```py(?:thon)?\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (folder / "train_zoo.py").write_text(trainer)
    (folder / "zoo_sac.py").write_text(config)
    (folder / "zoo_discrete_sac.py").write_text(config.replace('packaged("sac")', 'packaged("discrete-sac")'))
    command = [sys.executable, "train_zoo.py", "--algo", algo, "--env", env]
    command += ["-n", str(STEPS), "--seed", "0", "--device", "cpu", "--num-threads", "1", *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def saved(algo: str, env: str, folder: Path) -> Path:
    return folder / "logs" / algo / f"{env}_1" / f"{env}.zip"


def test_sac(tmp_path: Path) -> None:
    env = "InvertedPendulum-v5"
    done = train("entroreg_sac", env, tmp_path, "--conf-file", "zoo_sac.py")
    assert done.returncode == 0, done.stderr
    agent = SAC.load(saved("entroreg_sac", env, tmp_path), device="cpu")
    assert agent.num_timesteps == STEPS
    assert agent._n_updates == STEPS - 100  # one a step after learning_starts, whose default the file leaves
    assert_has(agent, packaged("sac")[env])


def test_discrete_sac(tmp_path: Path) -> None:
    env = "CartPole-v1"
    more = ("--conf-file", "zoo_discrete_sac.py", "-params", "learning_starts:100")
    done = train("entroreg_discrete_sac", env, tmp_path, *more)
    assert done.returncode == 0, done.stderr
    agent = DiscreteSAC.load(saved("entroreg_discrete_sac", env, tmp_path), device="cpu")
    assert agent.num_timesteps == STEPS
    assert agent._n_updates > 100
    assert_has(agent, {**packaged("discrete-sac")[env], "learning_starts": 100})


def test_our_names_are_among_its_algorithms(tmp_path: Path) -> None:
    done = train("entroreg_sacc", "InvertedPendulum-v5", tmp_path)
    assert done.returncode == 2
    assert "invalid choice: 'entroreg_sacc'" in done.stderr
    offered = done.stderr.partition("choose from")[2]
    assert {"entroreg_sac", "entroreg_discrete_sac"} <= set(re.findall(r"\w+", offered))


def assert_has(agent: Any, table: dict[str, Any]) -> None:
    """Check that an agent was made with the values of a table, none of which is the agent's default by accident."""
    assert agent.lr_schedule(1.0) == agent.lr_schedule(0.0) == table["learning_rate"] == 1e-3
    assert agent.policy_kwargs["net_arch"] == table["policy_kwargs"]["net_arch"] == [64, 64]
    assert agent.batch_size == table["batch_size"] != 256
    assert agent.gradient_steps == table.get("gradient_steps", 1)
    assert agent.train_freq.frequency == table.get("train_freq", 1)
    assert agent.learning_starts == table.get("learning_starts", 100)
