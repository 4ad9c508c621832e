"""SAC whose target entropy falls over training, with a ceiling on alpha: three things SB3 has no word for."""

from __future__ import annotations

from entroreg import Dual
from entroreg.agents import SAC
from entroreg.schedules import LinearSchedule

STEPS = 5_000


def main(steps: int = STEPS) -> SAC:
    """Train on Pendulum-v1 and print the coefficient and the target at the end."""
    alpha = Dual(
        target=LinearSchedule(start=0.0, end=-2.0, steps=steps),  # explore first, commit later
        learning_rate=1e-3,  # alpha's own
        maximum=1.0,
    )
    agent = SAC("MlpPolicy", "Pendulum-v1", ent_coef=alpha, seed=0, policy_kwargs={"net_arch": [64, 64]})
    agent.learn(steps)
    print(f"alpha {float(alpha.value):.3f}, target entropy {agent.target_entropy:.2f} nats")
    agent.save("sac_entropy_schedule")  # stock Stable-Baselines3 loads this zip
    return agent


if __name__ == "__main__":
    main()
