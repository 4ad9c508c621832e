"""Learning on real tasks, mean return of 20 episodes; minutes, so marked slow."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from entroreg.agents import SAC, DiscreteSAC
from entroreg.benchmarks.evaluation import episode_returns, greedy_policy
from entroreg.benchmarks.suites import sac as sac_suite


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sac_balances_the_inverted_pendulum() -> None:
    agent = SAC(
        "MlpPolicy",
        "InvertedPendulum-v5",
        learning_rate=1e-3,
        batch_size=64,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
    ).learn(16_000)
    env = Monitor(gym.make("InvertedPendulum-v5"))
    env.reset(seed=1)
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=20)
    env.close()
    print(f"mean return of 20 episodes: {mean:.1f}")
    assert mean >= 900.0  # the most is 1000


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_discrete_sac_solves_cart_pole(seed: int) -> None:
    task = sac_suite.TASKS["CartPole-v1"]
    # Eager, so that the scores are those of the result file: a seed is one draw, which rounding would draw again.
    agent = DiscreteSAC("MlpPolicy", "CartPole-v1", seed=seed, device="cpu", engine="eager", **task.settings)
    alphas = AlphaTrace()
    agent.learn(task.steps["small"], callback=alphas)
    env = gym.make("CartPole-v1")
    mean = float(np.mean(episode_returns(greedy_policy(agent), env, 20, seed=10_000 + seed)))
    print(f"seed {seed}: mean return {mean:.1f}, alpha {min(alphas.values):.3f} to {max(alphas.values):.3f}")
    assert mean >= 475.0  # the most is 500
    assert 0.01 < min(alphas.values)
    assert max(alphas.values) < 10.0


class AlphaTrace(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def _on_step(self) -> bool:
        self.values.append(float(self.model.controller.value))
        return True
