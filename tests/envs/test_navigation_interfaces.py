"""What surrounds the navigation task: registration, episode length, pictures, missing libraries, examples."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import entroreg.envs  # noqa: F401  (registers the task)
from entroreg.envs.navigation.drawing import draw
from entroreg.envs.navigation.environment import NavigationEnv

TASK = "entroreg/Navigation-v0"


def _python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"} | variables
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


def test_registering_does_not_import_mujoco() -> None:
    done = _python("import sys, entroreg.envs; print('mujoco' in sys.modules, 'torch' in sys.modules)")
    assert done.stdout == "False False\n"


@pytest.mark.parametrize(
    ("module", "code", "advice"),
    [
        ("gymnasium", "import entroreg.envs", "environments need pip install 'entroreg[rl]'"),
        (
            "mujoco",
            "from entroreg.envs.navigation.environment import NavigationEnv as E; E().reset(seed=0)",
            "navigation needs pip install 'entroreg[rl]'",
        ),
    ],
)
def test_a_missing_library_is_named_with_its_pip_line(module: str, code: str, advice: str) -> None:
    done = _python(f"import sys; sys.modules[{module!r}] = None; {code}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"import of {module} halted; None in sys.modules: {advice}")


def test_drawing_without_matplotlib_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"drawing needs pip install 'entroreg\[bench\]'$"):
        draw(NavigationEnv())


@pytest.mark.parametrize("steps", [5, 160, None])
def test_make_and_the_task_agree_on_the_length(steps: int | None) -> None:
    env = gymnasium.make(TASK, obstacles=0, max_episode_steps=steps)
    for made in (env, gymnasium.make(env.spec)):
        made.reset(seed=0)
        for step in range(1, (steps or 150) + 1):
            observation, _, terminated, truncated, _ = made.step(np.zeros(2, np.float32))
            assert truncated == (step == (steps or 150))
            assert observation[36] == pytest.approx(1.0 - step / (steps or 150), abs=1e-6)
            assert not terminated


@pytest.mark.parametrize("vector", ["sync", "async"])
def test_vectors_of_short_episodes_begin_anew(vector: str) -> None:
    envs = gymnasium.make_vec(TASK, num_envs=2, vectorization_mode=vector, obstacles=0, max_episode_steps=3)
    try:
        envs.reset(seed=0)
        ends = [envs.step(np.zeros((2, 2), np.float32))[3].tolist() for _ in range(3)]
        assert ends == [[False, False], [False, False], [True, True]]
        assert np.allclose(envs.step(np.zeros((2, 2), np.float32))[0][:, 36], 1.0)
    finally:
        envs.close()


def test_a_picture_has_the_map_the_robot_and_the_ways() -> None:
    env = gymnasium.make(TASK, obstacles=5)
    env.reset(seed=0)
    task = env.unwrapped
    assert isinstance(task, NavigationEnv)
    found = task.simulate(np.random.default_rng(0).uniform(-1, 1, (3, 10, 2)))
    axes = draw(env, found.positions).axes[0]
    centres = np.array([patch.center for patch in axes.patches])
    assert np.allclose(centres, [*task.map.obstacles[:, :2], task.map.goal, task.position])
    assert np.allclose([patch.radius for patch in axes.patches], [*task.map.obstacles[:, 2], 0.4, 0.2])
    for line, way in zip(axes.lines, found.positions, strict=True):
        assert np.array_equal(line.get_xydata(), way)
    assert len(draw(env, found.positions[0]).axes[0].lines) == 1
    assert not draw(env).axes[0].lines


def test_a_picture_refuses_other_shapes_and_tasks_that_have_not_begun() -> None:
    env = NavigationEnv()
    with pytest.raises(RuntimeError, match=r"^reset must be called first$"):
        draw(env)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^positions must have shape \(T, 2\) or \(N, T, 2\), got \(4, 3\)$"):
        draw(env, np.zeros((4, 3)))


RENDER = """
from entroreg.envs.navigation.environment import NavigationEnv
env = NavigationEnv(render_mode="rgb_array")
env.reset(seed=0)
picture = env.render()
print(picture.shape, picture.dtype, picture.std() > 10)
env.reset(seed=1)
print((env.render() != picture).any())
env.close()
"""


def test_rendering_draws_or_says_what_is_missing() -> None:
    done = _python(RENDER, MUJOCO_GL="egl")
    if done.returncode == 0:
        assert done.stdout == "(480, 640, 3) uint8 True\nTrue\n"
    else:  # no EGL here
        assert "RuntimeError: rendering needs OpenGL, got " in done.stderr
    done = _python(RENDER, MUJOCO_GL="disabled")
    assert done.returncode == 1
    assert "RuntimeError: rendering needs OpenGL, got " in done.stderr
    assert "set MUJOCO_GL=egl or osmesa before Python starts" in done.stderr
    assert NavigationEnv().render() is None


@pytest.mark.parametrize("name", ["drawing", "environment", "lidar", "maps", "model"])
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"entroreg.envs.navigation.{name}"))
    assert result.failed == 0
    assert result.attempted >= 1
