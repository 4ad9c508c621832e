"""A planner in closed loop, with and without adaptation at each frame."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.adaptation import Adapter
from entroreg.agents.planner.scorer import PlanScorer, PlanScores
from entroreg.agents.planner.uncertainty import Uncertainty


class Episode(NamedTuple):
    """How one map was driven.

    Attributes:
        success: whether the goal was reached.
        collision: whether something was hit; neither is a timeout.
        steps: control steps.
        uncertainty: for each measure its mean over the steps, in nats, of the scores that were driven by.
        seconds: for each step what the decision took, adaptation included.
    """

    success: bool
    collision: bool
    steps: int
    uncertainty: dict[str, float]
    seconds: list[float]


def drive(
    env: Any, scorer: PlanScorer, seed: int, measures: Mapping[str, Uncertainty], adapter: Adapter | None = None
) -> Episode:
    """Drive the map of a seed: at each step the best plan's first action.

    Args:
        env: a navigation environment.
        scorer: the planner.
        seed: of the map.
        measures: of uncertainty, recorded at each step.
        adapter: of this scorer; each step's scores are then those after its adaptation. It is reset first.
    """
    if adapter is not None:
        adapter.reset()
    observation, info = env.reset(seed=seed)
    found: list[dict[str, float]] = []
    seconds: list[float] = []
    ended = False
    while not ended:
        frame = torch.from_numpy(observation)[None]
        started = time.perf_counter()
        scores: PlanScores = _scores(scorer, frame) if adapter is None else adapter.adapt(frame).output
        action = _first_action(scorer, scores.joint())
        seconds.append(time.perf_counter() - started)
        found.append({name: float(measure(scores)) for name, measure in measures.items()})
        observation, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    means = {name: float(np.mean([row[name] for row in found])) for name in measures}
    return Episode(bool(info["is_success"]), bool(info["collision"]), len(found), means, seconds)


@torch.no_grad()
def _scores(scorer: PlanScorer, frame: Tensor) -> PlanScores:
    scores: PlanScores = scorer(frame)
    return scores


def _first_action(scorer: PlanScorer, scores: Tensor) -> NDArray[np.float32]:
    action: NDArray[np.float32] = scorer.actions[int(scores.argmax()), 0].numpy()
    return action
