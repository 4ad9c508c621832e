"""DiscreteSAC on a contextual bandit, whose soft optimum and its temperature have closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.logger import Logger

from entroreg.agents import DiscreteSAC

Build = Callable[..., Any]
STATES = np.eye(2, dtype=np.float32)


def _discrete(build: Build, env: Any, **settings: Any) -> Any:
    return build(DiscreteSAC, env=env, **settings)


def _probs(agent: Any, observations: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return agent.actor.log_probs(torch.as_tensor(observations)).exp().numpy()


def test_the_bandit_is_a_valid_environment(bandit: Any) -> None:
    check_env(bandit())


def test_the_entropy_penalty_pulls_towards_the_reference(build: Build, bandit: Any) -> None:
    def entropies(penalty: float) -> tuple[float, float]:
        settings = {"entropy_penalty": penalty, "ent_coef": 0.0, "tau": 0.0, "learning_rate": 0.05, "gamma": 0.0}
        agent = _discrete(build, env=bandit(), **settings)
        with torch.no_grad():
            for critic in (agent.critic, agent.critic_target):
                for parameter in critic.parameters():
                    parameter.zero_()
            agent.actor.logits[-1].bias.copy_(torch.tensor([3.0, -3.0]))  # the reference stays near uniform
        for state in STATES[:, None]:
            agent.replay_buffer.add(state, state, np.array([[0]]), np.array([0.0]), np.array([True]), [{}])
        agent.set_logger(Logger(None, []))
        before = _entropy(agent)
        agent.train(60, 16)
        return before, _entropy(agent)

    assert math.log(2.0) - entropies(10.0)[1] < 0.05
    before, after = entropies(0.0)
    assert before < 0.1
    assert after < 0.1


def _entropy(agent: Any) -> float:
    probs = _probs(agent, STATES)
    return float(-(probs * np.log(probs)).sum(axis=1).mean())


LEARNING = {"learning_rate": 0.01, "batch_size": 32, "gamma": 0.0, "learning_starts": 50, "seed": 0}


@pytest.mark.parametrize("options", [{}, {"double_average_q": True}, {"q_clip": 0.5, "entropy_penalty": 0.5}])
def test_the_bandits_soft_optimum(options: Any, build: Build, bandit: Any) -> None:
    # gamma 0: Q = r, and the optimum is pi = softmax(r / alpha).
    agent = _discrete(build, env=bandit(), ent_coef=0.5, tau=0.05, **LEARNING, **options).learn(350)
    expected = 1.0 / (1.0 + math.exp(-2.0))
    np.testing.assert_allclose(np.diag(_probs(agent, STATES)), expected, atol=0.02)
    with torch.no_grad():
        q_values = torch.stack(agent.critic(torch.as_tensor(STATES))).mean(dim=0).numpy()
    np.testing.assert_allclose(q_values, np.eye(2), atol=0.05)


def test_a_small_alpha_solves_the_bandit(build: Build, bandit: Any) -> None:
    agent = _discrete(build, env=bandit(), ent_coef=0.05, **LEARNING).learn(250)
    assert (np.diag(_probs(agent, STATES)) > 0.95).all()
    np.testing.assert_array_equal(agent.predict(STATES, deterministic=True)[0], [0, 1])


@pytest.mark.parametrize("target", ["auto", 0.25])
def test_alpha_moves_the_entropy_to_the_target(target: Any, build: Build, bandit: Any) -> None:
    share = 0.7 * math.log(2.0) if target == "auto" else target
    settings = {**LEARNING, "learning_rate": lambda left: 0.01 + 0.03 * left}
    agent = _discrete(build, env=bandit(), target_entropy=target, **settings).learn(500)
    assert _entropy(agent) == pytest.approx(share, abs=0.05)
    # softmax(1 / alpha) has that entropy: alpha is known too.
    probs = 1.0 / (1.0 + np.exp(-1.0 / float(agent.controller.value)))
    entropy = -probs * math.log(probs) - (1 - probs) * math.log(1 - probs)
    assert entropy == pytest.approx(share, abs=0.06)
