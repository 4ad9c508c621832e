"""What the trainings that are killed import, which each start would wait for. Importing this imports nothing."""

from __future__ import annotations

__all__ = ["IMPORTS"]

IMPORTS = [
    "entroreg.benchmarks.cli.verbs",
    "entroreg.benchmarks.mil.training",
    "entroreg.benchmarks.mil.verbs",
    "entroreg.benchmarks.robust.training",
    "entroreg.benchmarks.robust.verbs",
    "entroreg.benchmarks.training",
    "gymnasium.envs.mujoco.inverted_pendulum_v5",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "stable_baselines3.common.evaluation",
    "torch._dynamo",
    "torch.utils.tensorboard",
]
