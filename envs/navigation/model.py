"""The robot and a map as a MuJoCo model."""

from __future__ import annotations

from typing import Any

from entroreg.envs.navigation.maps import HALF_WIDTH, LENGTH, ROBOT_RADIUS, Map

MASS = 1.0  # kg
MAX_SPEED = 2.0  # m/s
TIMESTEP = 0.01  # s
SUBSTEPS = 10  # of a control step
_KV = 20.0  # N s/m: what the actuator asks for a speed that is missing, before traction limits it
_GRAVITY = 9.81
_HEIGHT = 0.3  # of the robot's centre; obstacles are taller, so contacts are those of discs

_TEMPLATE = """
<mujoco model="navigation">
  <option timestep="{timestep}" gravity="0 0 -{gravity}"/>
  <visual><global offwidth="640" offheight="480"/></visual>
  <worldbody>
    <light pos="{middle} 0 8" dir="0 0 -1"/>
    <camera name="above" pos="{middle} 0 10.5" xyaxes="1 0 0 0 1 0"/>
    <geom type="plane" pos="{middle} 0 0" size="6 4 .1" rgba=".9 .9 .9 1" contype="0" conaffinity="0"/>
    <site name="goal" type="cylinder" pos="{goal}" size=".4 .01" rgba=".2 .7 .3 1"/>
    {walls}
    {obstacles}
    <body name="robot" pos="0 0 {height}">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <geom name="robot" type="sphere" size="{radius}" mass="{mass}" rgba=".2 .4 .8 1"/>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="x" kv="{kv}" forcerange="-{traction} {traction}"/>
    <velocity joint="y" kv="{kv}" forcerange="-{traction} {traction}"/>
  </actuator>
</mujoco>
"""


def control_period() -> float:
    """Return the seconds between two actions."""
    return TIMESTEP * SUBSTEPS


def build_model(drawn: Map, friction: float) -> Any:
    """Return the MuJoCo model of a map; its joint positions are the robot's place in the field.

    The actuators pull towards a velocity with no more force, along each axis, than a floor of this friction
    carries: friction x mass x gravity.

    Args:
        drawn: the map.
        friction: coefficient, above 0.

    Raises:
        ModuleNotFoundError: MuJoCo is not installed.

    Example:
        >>> import numpy as np
        >>> from entroreg.envs.navigation.maps import draw_map
        >>> model = build_model(draw_map(3, 1.0, np.random.default_rng(0)), friction=0.5)
        >>> model.actuator_forcerange.round(3).tolist()
        [[-4.905, 4.905], [-4.905, 4.905]]
    """
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: navigation needs pip install 'entroreg[rl]'", name=error.name
        ) from error

    half, middle = 0.1, LENGTH / 2
    walls = [(middle, side * (HALF_WIDTH + half), middle + 2 * half, half) for side in (-1, 1)]
    walls += [(end, 0.0, half, HALF_WIDTH + 2 * half) for end in (-half, LENGTH + half)]
    return mujoco.MjModel.from_xml_string(
        _TEMPLATE.format(
            timestep=TIMESTEP,
            gravity=_GRAVITY,
            middle=middle,
            goal=f"{drawn.goal[0]} {drawn.goal[1]} .01",
            walls="\n".join(
                f'<geom type="box" pos="{x} {y} {_HEIGHT}" size="{a} {b} {_HEIGHT}" rgba=".4 .4 .4 1"/>'
                for x, y, a, b in walls
            ),
            obstacles="\n".join(
                f'<geom type="capsule" fromto="{x} {y} -1 {x} {y} 1.5" size="{r}" rgba=".8 .4 .2 1"/>'
                for x, y, r in drawn.obstacles
            ),
            height=_HEIGHT,
            radius=ROBOT_RADIUS,
            mass=MASS,
            kv=_KV,
            traction=friction * MASS * _GRAVITY,
        )
    )


def open_renderer(model: Any) -> Any:
    """Return a MuJoCo renderer of 640 x 480 pixels.

    Args:
        model: from `build_model`.

    Raises:
        RuntimeError: there is no OpenGL.
    """
    import mujoco

    try:
        return mujoco.Renderer(model, height=480, width=640)
    except (mujoco.FatalError, AttributeError, ImportError, RuntimeError) as error:  # each backend has its own
        raise RuntimeError(
            f"rendering needs OpenGL, got {error!r}: set MUJOCO_GL=egl or osmesa before Python starts, "
            "or use entroreg.envs.navigation.drawing.draw, which needs none"
        ) from error
