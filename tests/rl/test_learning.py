"""Learning on a real task: seed 0, 16,000 steps, mean return of 20 episodes; minutes, so marked slow."""

from __future__ import annotations

import gymnasium as gym
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from entroreg.agents import SAC


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
