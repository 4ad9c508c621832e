"""Seeded maps of round obstacles, each with a way from start to goal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

LENGTH, HALF_WIDTH = 10.0, 3.0  # the field is [0, 10] x [-3, 3], in metres
ROBOT_RADIUS = 0.2
RADII = 0.25, 0.55  # of obstacles
START_X, GOAL_X = 0.8, 9.2
_NEAR_ENDS = 1.0  # an obstacle's surface is at least so far from start and goal
_CELL = 0.05  # of the grid that a way is searched on
_TRIES_AN_OBSTACLE, _TRIES = 100, 20


class Map(NamedTuple):
    """Where everything is, in metres.

    Attributes:
        start: (2,).
        goal: (2,).
        obstacles: (n, 3) centre x, centre y and radius.
    """

    start: NDArray[np.float64]
    goal: NDArray[np.float64]
    obstacles: NDArray[np.float64]

    def clearance(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance between the robot's surface and the nearest obstacle or wall.

        Args:
            positions: (..., 2) of the robot's centre.

        Returns:
            (...) metres, negative where they overlap.

        Example:
            >>> drawn = Map(np.zeros(2), np.ones(2), np.array([[5.0, 0.0, 0.5]]))
            >>> drawn.clearance(np.array([[4.0, 0.0], [5.0, 2.5]]))
            array([0.3, 0.3])
        """
        walls = np.minimum(
            HALF_WIDTH - np.abs(positions[..., 1]), LENGTH / 2 - np.abs(positions[..., 0] - LENGTH / 2)
        )
        if len(self.obstacles):
            offsets = positions[..., None, :] - self.obstacles[:, :2]
            walls = np.minimum(walls, (np.linalg.norm(offsets, axis=-1) - self.obstacles[:, 2]).min(axis=-1))
        clear: NDArray[np.float64] = walls - ROBOT_RADIUS
        return clear


def draw_map(obstacles: int, gap: float, rng: np.random.Generator) -> Map:
    """Return a map with a way through.

    Args:
        obstacles: how many, from 0.
        gap: smallest distance between the surfaces of two obstacles, in metres; at least the robot's diameter.
        rng: draws the map.

    Raises:
        ValueError: a number is out of its range, or so many obstacles do not fit or leave no way.

    Example:
        >>> draw_map(obstacles=8, gap=1.2, rng=np.random.default_rng(0)).obstacles.shape
        (8, 3)
    """
    if obstacles < 0:
        raise ValueError(f"obstacles must be at least 0, got {obstacles}")
    if not 2 * ROBOT_RADIUS <= gap < 2 * HALF_WIDTH:
        raise ValueError(
            f"gap must be between the robot's diameter, {2 * ROBOT_RADIUS}, and the field's width, "
            f"{2 * HALF_WIDTH}, got {gap}"
        )
    for _ in range(_TRIES):
        start, goal = (np.array([x, rng.uniform(-2.0, 2.0)]) for x in (START_X, GOAL_X))
        placed = _place(obstacles, gap, start, goal, rng)
        if placed is not None and _has_way(drawn := Map(start, goal, placed)):
            return drawn
    raise ValueError(
        f"{obstacles} obstacles with gaps of {gap} m must fit the field and leave a way, "
        f"got none in {_TRIES} maps: ask for fewer or a smaller gap"
    )


def _place(
    count: int, gap: float, start: NDArray[np.float64], goal: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64] | None:
    placed = np.empty((0, 3))
    for _ in range(count):
        for _ in range(_TRIES_AN_OBSTACLE):
            radius = rng.uniform(*RADII)
            centre = np.array([rng.uniform(1.5, LENGTH - 1.5), rng.uniform(-HALF_WIDTH, HALF_WIDTH)])
            near = min(np.linalg.norm(centre - end) for end in (start, goal)) - radius
            between = np.linalg.norm(placed[:, :2] - centre, axis=1) - placed[:, 2] - radius
            if near >= _NEAR_ENDS and bool((between >= gap).all()):
                placed = np.vstack([placed, [*centre, radius]])
                break
        else:
            return None
    return placed


def _has_way(drawn: Map) -> bool:
    """Whether start and goal lie in one region that the robot's centre can be in, on a grid."""
    x, y = np.arange(0.0, LENGTH, _CELL), np.arange(-HALF_WIDTH, HALF_WIDTH, _CELL)
    # Half a cell's diagonal more than the robot: a way on the grid is one between its points too.
    free = drawn.clearance(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)) > _CELL
    regions, _ = label(free)
    ends = [regions[round(p[0] / _CELL), round((p[1] + HALF_WIDTH) / _CELL)] for p in (drawn.start, drawn.goal)]
    return bool(ends[0] == ends[1] != 0)
