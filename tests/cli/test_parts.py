"""The parts under the command: options, evaluation, progress, signals."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import pytest

from entroreg.benchmarks.evaluation import episode_returns, random_policy
from entroreg.benchmarks.options import (
    AgentOptions,
    DiscreteOptions,
    RunOptions,
    TrainDiscreteSAC,
    TrainSAC,
    from_json,
    to_json,
)
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.signals import stop_on_signals


@pytest.mark.parametrize(
    "options",
    [
        TrainSAC(
            RunOptions("A-v0", out=Path("x/y"), threads=2, engine="eager"),
            AgentOptions(net=(3, 4), target_entropy=-2.0),
        ),
        TrainDiscreteSAC(RunOptions("B-v0"), discrete=DiscreteOptions(q_clip=0.5)),
    ],
)
def test_options_survive_json(options: TrainSAC | TrainDiscreteSAC) -> None:
    assert from_json(json.loads(json.dumps(to_json(options)))) == options


@pytest.mark.parametrize("cls", [RunOptions, AgentOptions, DiscreteOptions])
def test_no_options_class_grows_into_a_god_object(cls: type) -> None:
    assert len(fields(cls)) <= 16


def test_episodes_are_seeded_one_by_one() -> None:
    env = gym.make("Pendulum-v1")
    still = lambda _observation: env.action_space.low * 0.0  # noqa: E731
    first = episode_returns(still, env, 3, seed=1)
    assert len(set(first)) == 3
    assert episode_returns(still, env, 3, seed=1) == first
    assert episode_returns(still, env, 2, seed=1) == first[:2]
    assert episode_returns(still, env, 3, seed=2) != first
    drawn = episode_returns(random_policy(env, 5), env, 1, seed=1)
    assert episode_returns(random_policy(env, 5), env, 1, seed=1) == drawn
    assert episode_returns(random_policy(env, 6), env, 1, seed=1) != drawn


def test_a_stop_ends_the_evaluation() -> None:
    env = gym.make("CartPole-v1")
    answers = iter([False] * 500)
    returns = episode_returns(random_policy(env, 0), env, 1000, seed=0, stop=lambda: next(answers, True))
    assert 5 < len(returns) < 50
    assert sum(returns) < 500


def test_progress_prints_tenths_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"return": 1.0}, {"return": 3.0, "alpha": 0.25, "entropy": -1.0}]
    with show_progress("title", 40) as progress:
        for step in range(1, 41):
            progress.advance(step, rows)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "title  40/40  return 2.0  entropy -1  alpha 0.25"


def test_a_signal_sets_the_flag_and_the_old_handler_returns() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        assert not stop()
        assert stop.exit_code == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert stop.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_does_not_wait() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
