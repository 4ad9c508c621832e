"""States that a planner meets, with the outcome of every plan in each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.agents.planner.outcomes import Subscores, judge

Driver = Callable[[Tensor, Subscores], int]  # observation and true outcomes -> the plan to drive


class LabelledStates(NamedTuple):
    """Observations and what each plan leads to from there, float32.

    Attributes:
        observations: (S, observation_size).
        safe: (S, N) 1 without a collision, else 0.
        progress: (S, N) in [0, 1].
        comfort: (S, N) in [0, 1].
    """

    observations: Tensor
    safe: Tensor
    progress: Tensor
    comfort: Tensor


def collect_states(
    env: Any, actions: Tensor, drive: Driver, seeds: Sequence[int], states: int, held: int = 2
) -> LabelledStates:
    """Drive in the maps of the seeds, in turn, until enough states are labelled.

    Args:
        env: a navigation environment, wrapped or not.
        actions: (N, T, 2) the vocabulary's.
        drive: chooses a plan, from which the first ``held`` actions are taken.
        seeds: of maps; each is driven at most once.
        states: S, how many.
        held: control steps between two states, from 1.

    Raises:
        ValueError: the seeds were used up first.
    """
    plans = actions.double().numpy()
    navigation = env.unwrapped
    rows: list[tuple[NDArray[np.float32], Subscores]] = []
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        ended = False
        while not ended:
            truth = judge(navigation.simulate(plans), info["distance"], info["velocity"])
            rows.append((observation, truth))
            if len(rows) == states:
                return _stacked(rows)
            chosen = drive(torch.from_numpy(observation), truth)
            for action in plans[chosen, :held].astype(np.float32):
                observation, _, terminated, truncated, info = env.step(action)
                ended = terminated or truncated
                if ended:
                    break
    raise ValueError(f"{states} states must be met in {len(seeds)} maps, got {len(rows)}: give more seeds")


def join(parts: Sequence[LabelledStates]) -> LabelledStates:
    """Return the states of all parts."""
    return LabelledStates(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _stacked(rows: Sequence[tuple[NDArray[np.float32], Subscores]]) -> LabelledStates:
    def column(values: Sequence[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(values)).float()

    truths = [truth for _, truth in rows]
    return LabelledStates(
        column([observation for observation, _ in rows]),
        column([truth.safe for truth in truths]),
        column([truth.progress for truth in truths]),
        column([truth.comfort for truth in truths]),
    )
