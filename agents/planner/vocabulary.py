"""A vocabulary of plans: smooth ones, drawn at random and thinned out by k-means."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from entroreg.envs.navigation.model import MAX_SPEED, control_period
from entroreg.grouping import by_kmeans

_DRAWN = 4000
_KNOTS = 4  # of heading and speed over a plan; between them both change linearly
_TURN = 1.2  # standard deviation of the heading's change from knot to knot, in radians


class Vocabulary(NamedTuple):
    """N plans of T control steps.

    Attributes:
        actions: (N, T, 2) desired velocities, shares of the highest speed, in [-1, 1].
        positions: (N, T, 2) where they lead from the origin if every velocity is reached at once, in metres.
    """

    actions: Tensor
    positions: Tensor


def make_vocabulary(size: int, steps: int, generator: torch.Generator) -> Vocabulary:
    """Return plans that cover what smooth driving can do.

    Args:
        size: N, from 2; one of them is to stand still.
        steps: T, from 4.
        generator: draws the plans.

    Raises:
        ValueError: a number is too small.
    """
    if size < 2 or steps < _KNOTS:
        raise ValueError(f"size must be at least 2 and steps at least {_KNOTS}, got {size} and {steps}")
    drawn = _smooth_plans(_DRAWN, steps, generator)
    trajectories = _positions(drawn).flatten(1)
    centres = by_kmeans(trajectories, size - 1, generator).centres
    # The drawn plan next to each centre: a mean of plans would be slower than any of them.
    nearest = torch.cdist(centres, trajectories).argmin(dim=1)
    actions = torch.cat([torch.zeros(1, steps, 2), drawn[nearest]])
    return Vocabulary(actions, _positions(actions))


def _positions(actions: Tensor) -> Tensor:
    return actions.cumsum(dim=1) * (MAX_SPEED * control_period())


def _smooth_plans(count: int, steps: int, generator: torch.Generator) -> Tensor:
    first = 2.0 * torch.pi * torch.rand(count, 1, generator=generator)
    turns = _TURN * torch.randn(count, _KNOTS - 1, generator=generator)
    headings = torch.cat([first, turns], dim=1).cumsum(dim=1)
    speeds = torch.rand(count, _KNOTS, generator=generator).sqrt()  # fast ones more often
    knots = torch.stack([headings, speeds], dim=1)
    heading, speed = torch.nn.functional.interpolate(knots, steps, mode="linear", align_corners=True).unbind(dim=1)
    return speed.unsqueeze(-1) * torch.stack([heading.cos(), heading.sin()], dim=-1)
