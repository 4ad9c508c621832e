"""A map and the ways driven on it as a picture, without OpenGL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from entroreg.envs.navigation.environment import GOAL_RADIUS
from entroreg.envs.navigation.maps import HALF_WIDTH, LENGTH, ROBOT_RADIUS


def draw(env: Any, positions: ArrayLike | None = None) -> Any:
    """Return a matplotlib figure of the map from above, the robot where it is, and ways.

    Args:
        env: a navigation environment, wrapped or not, after ``reset``.
        positions: (T, 2) of one way or (N, T, 2) of several, in metres, such as ``simulate(plans).positions``;
            None for no way.

    Returns:
        A ``matplotlib.figure.Figure``; ``savefig`` writes it.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        RuntimeError: before ``reset``.
        ValueError: positions of another shape.

    Example:
        >>> from entroreg.envs.navigation.environment import NavigationEnv
        >>> env = NavigationEnv(obstacles=3)
        >>> _, info = env.reset(seed=0)
        >>> len(draw(env, [info["position"], env.map.goal]).axes[0].lines)
        1
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no global state, no display
        from matplotlib.patches import Circle
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: drawing needs pip install 'entroreg[bench]'", name=error.name
        ) from error

    ways = _ways(positions)
    navigation = env.unwrapped
    robot = navigation.position
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for x, y, radius in navigation.map.obstacles:
        axes.add_patch(Circle((x, y), radius, color="0.45"))
    axes.add_patch(Circle(tuple(navigation.map.goal), GOAL_RADIUS, color="C2", alpha=0.5))
    for way in ways:
        axes.plot(way[:, 0], way[:, 1], lw=1.0, alpha=0.8)
    axes.add_patch(Circle(tuple(robot), ROBOT_RADIUS, color="C0", zorder=3))
    axes.set(xlim=(0, LENGTH), ylim=(-HALF_WIDTH, HALF_WIDTH), aspect="equal", xlabel="x (m)", ylabel="y (m)")
    return figure


def _ways(positions: ArrayLike | None) -> Any:
    if positions is None:
        return np.empty((0, 0, 2))
    ways = np.asarray(positions, dtype=np.float64)
    if ways.ndim not in (2, 3) or ways.shape[-1] != 2:
        raise ValueError(f"positions must have shape (T, 2) or (N, T, 2), got {ways.shape}")
    return ways[None] if ways.ndim == 2 else ways
