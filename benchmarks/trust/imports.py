"""What the trainings that are killed import, which each start would wait for. Importing this imports nothing."""

from __future__ import annotations

__all__ = ["IMPORTS"]

_COMMAND = [
    "entroreg.benchmarks.cli.parsing",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "torch.utils.tensorboard",
]
_AGENTS = [
    "entroreg.benchmarks.robust.training",
    "entroreg.benchmarks.robust.verbs",
    "entroreg.benchmarks.training",
    "gymnasium.envs.mujoco.inverted_pendulum_v5",
    "stable_baselines3.common.evaluation",
    "torch._dynamo",
]
IMPORTS = {
    "sac": [*_COMMAND, *_AGENTS],
    "qarl": [*_COMMAND, *_AGENTS],
    "mil": [
        *_COMMAND,
        "entroreg.benchmarks.mil.training",
        "entroreg.benchmarks.mil.verbs",
        "scipy.stats",
        "torch._dynamo",
        "torchmetrics.classification",
    ],
}
"""By task."""
