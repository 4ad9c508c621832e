"""A ring of distances around the robot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BEAMS, RANGE = 32, 4.0  # over 360 degrees from +x on, counter-clockwise; metres from the robot's centre


def directions() -> NDArray[np.float64]:
    """Return the unit vectors of the beams, (32, 2).

    Example:
        >>> directions()[[0, 8]].round(3).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    angles = np.arange(BEAMS) * 2.0 * np.pi / BEAMS
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


_RAYS = np.concatenate([directions(), np.zeros((BEAMS, 1))], axis=1).ravel()


def scan(model: Any, data: Any, robot: int) -> NDArray[np.float64]:
    """Return how far the nearest surface is in each direction, as a share of the range, 1 where none is in it.

    Args:
        model: of a map.
        data: its state, with positions of bodies up to date.
        robot: the id of the robot's body, which is not seen.
    """
    import mujoco

    geoms, distances = np.empty(BEAMS, np.int32), np.empty(BEAMS)
    centre = data.xpos[robot]
    mujoco.mj_multiRay(model, data, centre, _RAYS, None, 1, robot, geoms, distances, None, BEAMS, RANGE)
    return np.where((distances < 0) | (distances > RANGE), RANGE, distances) / RANGE
