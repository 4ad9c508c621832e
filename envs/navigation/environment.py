"""The navigation task as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.envs.navigation.lidar import BEAMS, scan
from entroreg.envs.navigation.maps import LENGTH, Map, draw_map
from entroreg.envs.navigation.model import MAX_SPEED, SUBSTEPS, build_model, open_renderer
from entroreg.envs.navigation.simulation import SimulatedPlans, require_actions, simulate_plans

GOAL_RADIUS = 0.4  # metres
_SUCCESS, _COLLISION, _STEP = 10.0, -10.0, -0.01  # rewards


class NavigationEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Drive a disc of 0.2 m and 1 kg over a field of 10 x 6 m to a goal, among round obstacles.

    Observation, (37,) float32: 32 lidar distances as shares of 4 m, the goal's offset in units of 10 m, the
    velocity in units of 2 m/s, the share of time that is left. Action, (2,) in [-1, 1]: the desired velocity in
    units of 2 m/s, held for 0.1 s; the force towards it is limited to what a floor of the given friction carries.
    Reward: metres of progress to the goal - 0.01, +10 at the goal, -10 at a collision; both end the episode.

    Args:
        obstacles: how many.
        gap: smallest distance between two of them, in metres, at least 0.4.
        friction: of the floor, above 0.
        lidar_noise: standard deviation of the noise on each lidar reading, as a share of its range.
        max_episode_steps: control steps until an episode is truncated.
        render_mode: None or rgb_array.

    Raises:
        ModuleNotFoundError: at ``reset``, MuJoCo is not installed.
        TypeError: a number of another kind.
        ValueError: a number out of its range; at ``reset``, obstacles that do not fit.

    Example:
        >>> env = NavigationEnv(obstacles=4, friction=0.3)
        >>> observation, info = env.reset(seed=0)
        >>> _, reward, terminated, truncated, info = env.step(np.array([1.0, 0.0], np.float32))
        >>> observation.shape, info["collision"], terminated
        ((37,), False, False)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (Gymnasium declares it so)

    def __init__(
        self,
        obstacles: int = 8,
        gap: float = 1.2,
        friction: float = 0.8,
        lidar_noise: float = 0.0,
        max_episode_steps: int = 150,
        render_mode: str | None = None,
    ) -> None:
        self._obstacles = _require_count("obstacles", obstacles, low=0)
        self._gap = _checks.require_positive("gap", gap)
        self._friction = _checks.require_positive("friction", friction)
        self._lidar_noise = _checks.require_number("lidar_noise", lidar_noise, low=0.0)
        self.max_episode_steps = max_episode_steps
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        # Twice the highest speed: what a push out of an obstacle stays below.
        low = np.concatenate([np.zeros(BEAMS), [-1.0, -1.0, -2.0, -2.0], np.zeros(1)]).astype(np.float32)
        high = np.concatenate([np.ones(BEAMS), [1.0, 1.0, 2.0, 2.0], np.ones(1)]).astype(np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self._model: Any = None
        self._data: Any = None
        self._renderer: Any = None
        self._steps = 0
        self.map: Map

    @property
    def max_episode_steps(self) -> int:
        """Control steps until an episode is truncated."""
        return self._max_steps

    @max_episode_steps.setter
    def max_episode_steps(self, steps: int) -> None:
        self._max_steps = _require_count("max_episode_steps", steps, low=1)

    @property
    def position(self) -> NDArray[np.float64]:
        """The robot's centre, (2,) in metres; a RuntimeError before ``reset``."""
        self._require_started()
        position: NDArray[np.float64] = self._data.qpos.copy()
        return position

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a map, which is a function of the seed, and return the first observation."""
        super().reset(seed=seed)
        self.close()
        self._place(draw_map(self._obstacles, self._gap, self.np_random))
        self._data.qpos[:] = self.map.start
        self._settle()
        return self._observation(), self._info(collision=False)

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Ask for a velocity for 0.1 s."""
        import mujoco

        self._require_started()
        before = self._distance()
        self._data.ctrl[:] = require_actions(action, (2,)) * MAX_SPEED
        collision = False
        for _ in range(SUBSTEPS):
            mujoco.mj_step(self._model, self._data)
            collision |= bool(self.map.clearance(self._data.qpos) < 0.0)
        self._settle()
        self._steps += 1
        info = self._info(collision)
        reward = before - info["distance"] + _STEP + _SUCCESS * info["is_success"] + _COLLISION * collision
        ended = bool(info["is_success"] or collision)
        return self._observation(), float(reward), ended, not ended and self._steps >= self._max_steps, info

    def simulate(self, plans: NDArray[np.float64]) -> SimulatedPlans:
        """Return what plans lead to from here; the environment stays as it is.

        Args:
            plans: (N, T, 2) actions in [-1, 1].

        Raises:
            ValueError: another shape, or a number that is not finite.
            RuntimeError: before ``reset``.
        """
        self._require_started()
        plans = np.asarray(plans, dtype=np.float64)
        if plans.ndim != 3 or plans.shape[-1] != 2 or plans.size == 0:
            raise ValueError(f"plans must have shape (N, T, 2), got {plans.shape}")
        return simulate_plans(self._model, self._data, self.map, require_actions(plans, plans.shape))

    def state(self) -> dict[str, Any]:
        """Return all that decides what comes next: map, physics, time and random numbers."""
        import mujoco

        self._require_started()
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(self._model, kind))
        mujoco.mj_getState(self._model, self._data, physics, kind)
        return {
            "map": self.map._asdict(),
            "physics": physics,
            "random": self.np_random.bit_generator.state,
            "steps": self._steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state; what follows is what followed it, bit for bit.

        Args:
            state: what `state` returned, of an environment with the same arguments.

        Raises:
            ValueError: a key is missing or unknown.
        """
        _checks.require_keys("state of NavigationEnv", state, ("map", "physics", "random", "steps"))
        self.close()
        self._place(Map(**{name: np.array(value) for name, value in state["map"].items()}))
        import mujoco

        mujoco.mj_setState(self._model, self._data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION)
        self._settle()
        self.np_random.bit_generator.state = state["random"]
        self._steps = state["steps"]

    def render(self) -> Any:
        """Return a picture from above, (480, 640, 3) uint8, where ``render_mode`` asks for one.

        Raises:
            RuntimeError: before ``reset``, or there is no OpenGL.
        """
        if self.render_mode is None:
            return None
        self._require_started()
        if self._renderer is None:
            self._renderer = open_renderer(self._model)
        self._renderer.update_scene(self._data, camera="above")
        return self._renderer.render()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _place(self, drawn: Map) -> None:
        self._model = build_model(drawn, self._friction)
        import mujoco

        self.map = drawn
        self._data = mujoco.MjData(self._model)
        self._robot = self._model.body("robot").id
        self._steps = 0

    def _settle(self) -> None:
        """Bring what depends on the position up to date, without the solver, which would move its warm start."""
        import mujoco

        mujoco.mj_kinematics(self._model, self._data)

    def _require_started(self) -> None:
        if self._data is None:
            raise RuntimeError("reset must be called first")

    def _distance(self) -> float:
        return float(np.linalg.norm(self.map.goal - self._data.qpos))

    def _observation(self) -> NDArray[np.float32]:
        lidar = scan(self._model, self._data, self._robot)
        if self._lidar_noise:
            lidar = np.clip(lidar + self._lidar_noise * self.np_random.normal(size=BEAMS), 0.0, 1.0)
        goal = (self.map.goal - self._data.qpos) / LENGTH
        left = max(0.0, 1.0 - self._steps / self._max_steps)
        return np.concatenate([lidar, goal, self._data.qvel / MAX_SPEED, [left]]).astype(np.float32)

    def _info(self, collision: bool) -> dict[str, Any]:
        distance = self._distance()
        return {
            "is_success": distance < GOAL_RADIUS and not collision,
            "collision": collision,
            "position": self.position,
            "velocity": self._data.qvel.copy(),
            "distance": distance,
        }


def _require_count(name: str, value: float, low: int) -> int:
    number = _checks.require_number(name, value, low=low)
    if not number.is_integer():
        raise ValueError(f"{name} must be a whole number, got {value}")
    return int(number)
