"""What theory says of a training: the law R = -a exp(H) + b, and entropy spent as the covariance says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from entroreg.policy_gradient import EntropyMonitor, fit_entropy_law

FIRST_PART = 0.15  # of a training; the paper's


def law_of(curve: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """Return the fit to a whole training, and the error of the forecast from its first part.

    Args:
        curve: blocks of steps, each with its mean entropy (nats) and reward.

    Returns:
        ``a``, ``b``, ``ceiling``, ``ceiling_interval`` and ``r_squared`` of the whole; ``forecast_error``, the mean
        absolute difference of forecast and reward over the rest, given its entropies; ``forecast_final_error`` that
        at the last block. None where the training is too short for a first part of three blocks.
    """
    first = round(FIRST_PART * len(curve))
    if first < 3:
        return None
    entropy = np.array([block["entropy"] for block in curve])
    reward = np.array([block["reward"] for block in curve])
    whole = fit_entropy_law(entropy, reward)  # type: ignore[arg-type]
    early = fit_entropy_law(entropy[:first], reward[:first])  # type: ignore[arg-type]
    errors = np.abs(early.forecast(entropy[first:]) - reward[first:])  # type: ignore[arg-type]
    return {
        **{name: getattr(whole, name) for name in ("a", "b", "ceiling", "r_squared")},
        "ceiling_interval": list(whole.ceiling_interval),
        "forecast_error": float(errors.mean()),
        "forecast_final_error": float(errors[-1]),
    }


def monitor_of(curve: Sequence[Mapping[str, float]]) -> EntropyMonitor:
    """Return a monitor of a training's blocks.

    From rollout to rollout the change of entropy is mostly that the problems are others; means over ten show it.

    Args:
        curve: blocks of steps, each with its mean entropy (nats) and covariance.
    """
    monitor = EntropyMonitor()
    for block in curve:
        monitor.update(int(block["step"]), block["entropy"], block["covariance"])
    return monitor
