from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import entroreg.envs  # noqa: F401  (registers the task)
from entroreg.envs.navigation.environment import GOAL_RADIUS, NavigationEnv
from entroreg.envs.navigation.lidar import BEAMS, RANGE, directions
from entroreg.envs.navigation.maps import HALF_WIDTH, LENGTH, ROBOT_RADIUS, Map, draw_map
from entroreg.envs.navigation.model import MAX_SPEED, build_model, control_period

GRAVITY = 9.81


def _started(seed: int = 0, **arguments: Any) -> NavigationEnv:
    env = NavigationEnv(**arguments)
    env.reset(seed=seed)
    return env


def _at(env: NavigationEnv, position: tuple[float, float], velocity: tuple[float, float] = (0.0, 0.0)) -> None:
    env._data.qpos[:], env._data.qvel[:] = position, velocity
    env._settle()


def test_gymnasium_and_stable_baselines3_accept_it() -> None:
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    env = gymnasium.make("entroreg/Navigation-v0")
    check_env(env.unwrapped, skip_render_check=True)  # a warning would be an error
    check_for_sb3(env.unwrapped)


@pytest.mark.parametrize("friction", [0.1, 0.3, 0.8])
def test_braking_takes_v_squared_over_twice_mu_g(friction: float) -> None:
    env = _started(obstacles=0, friction=friction)
    _at(env, (1.0, 0.0), (1.5, 0.0))
    positions = [float(env.step(np.zeros(2, np.float32))[4]["position"][0]) for _ in range(40)]
    # Near a standstill the actuator asks for less than the floor carries, and the last of it fades exponentially.
    tail = (friction * GRAVITY) ** 2 / 20.0**2 / (2 * friction * GRAVITY)
    assert positions[-1] - 1.0 == pytest.approx(1.5**2 / (2 * friction * GRAVITY), abs=1.5 * 0.01 + tail)


@pytest.mark.parametrize("friction", [0.1, 0.3])
def test_it_speeds_up_by_mu_g_while_traction_limits_it(friction: float) -> None:
    env = _started(obstacles=0, friction=friction)
    _at(env, (1.0, 0.0))
    for step in range(1, 5):
        *_, info = env.step(np.array([1.0, -1.0], np.float32))
        assert np.allclose(info["velocity"], [0.1 * step * friction * GRAVITY, -0.1 * step * friction * GRAVITY])


def test_the_highest_speed_is_reached_and_held() -> None:
    env = _started(obstacles=0)
    _at(env, (0.8, 0.0))
    for _ in range(20):
        env.step(np.array([1.0, 0.0], np.float32))
    assert float(env._data.qvel[0]) == pytest.approx(MAX_SPEED, rel=1e-3)
    assert abs(float(env._data.qvel[1])) < 1e-9


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_lidar_measures_the_distance_to_circles_and_walls(seed: int) -> None:
    env = _started(seed)
    rng = np.random.default_rng(seed)
    position = env.map.start + rng.uniform(-0.3, 0.3, 2)
    _at(env, (float(position[0]), float(position[1])))
    found = env._observation()[:BEAMS] * RANGE
    for distance, direction in zip(found, directions(), strict=True):
        ends = [RANGE]
        for x, y, radius in env.map.obstacles:  # |p + t d - c| = r
            offset = position - (x, y)
            along = float(offset @ direction)
            root = along**2 - float(offset @ offset) + radius**2
            if root >= 0 and -along - np.sqrt(root) > 0:
                ends.append(float(-along - np.sqrt(root)))
        for axis, low, high in ((0, 0.0, LENGTH), (1, -HALF_WIDTH, HALF_WIDTH)):
            if abs(direction[axis]) > 1e-9:
                ends.append(float(((high if direction[axis] > 0 else low) - position[axis]) / direction[axis]))
        assert distance == pytest.approx(min(ends), abs=1e-5)


@pytest.mark.parametrize(("gap", "collides"), [(0.01, False), (-0.01, True)])
def test_a_collision_is_when_discs_touch(gap: float, collides: bool) -> None:
    env = _started()
    x, y, radius = env.map.obstacles[0]
    away = np.array([1.0, 0.0]) if x < LENGTH / 2 else np.array([-1.0, 0.0])
    position = np.array([x, y]) + (radius + ROBOT_RADIUS + gap) * away
    if env.map.clearance(position) > gap + 1e-6 or abs(position[1]) > HALF_WIDTH - 0.3:
        pytest.skip("another obstacle is nearer")
    _at(env, (float(position[0]), float(position[1])))
    _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
    assert info["collision"] == terminated == collides
    assert (reward < -5.0) == collides


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_collisions_are_the_contacts_of_mujoco(seed: int) -> None:
    import mujoco

    env, rng = _started(seed, obstacles=10, gap=0.6), np.random.default_rng(seed)
    overlaps = 0
    for _ in range(40):
        x, y, radius = env.map.obstacles[rng.integers(10)]
        angle, apart = rng.uniform(0, 2 * np.pi), radius + ROBOT_RADIUS + rng.uniform(-0.02, 0.02)
        place = x + apart * np.cos(angle), y + apart * np.sin(angle)
        if abs(place[1]) > HALF_WIDTH:
            continue  # beyond the wall, where the robot does not get
        _at(env, place)
        mujoco.mj_forward(env._model, env._data)
        overlaps += env._data.ncon > 0
        assert (env._data.ncon > 0) == (env.map.clearance(env.position) < 0.0)
    assert 0 < overlaps < 40


def test_lidar_noise_has_its_standard_deviation() -> None:
    env = _started(obstacles=0, lidar_noise=0.02)
    _at(env, (5.0, 0.0))
    scans = np.stack([env._observation()[:BEAMS] for _ in range(400)])
    inside = scans.mean(axis=0) < 0.9  # further ones are clipped at the range
    assert inside.sum() > 5
    assert scans[:, inside].std(axis=0).mean() == pytest.approx(0.02, rel=0.05)
    assert scans.max() == 1.0


def test_walls_collide_and_the_goal_succeeds() -> None:
    env = _started(obstacles=0)
    _at(env, (5.0, HALF_WIDTH - ROBOT_RADIUS - 0.05), (0.0, 1.5))
    _, _, terminated, truncated, info = env.step(np.array([0.0, 1.0], np.float32))
    assert (terminated, truncated, info["collision"], info["is_success"]) == (True, False, True, False)
    env = _started(obstacles=0)
    goal = env.map.goal
    _at(env, (float(goal[0] - GOAL_RADIUS - 0.05), float(goal[1])), (1.5, 0.0))
    _, reward, terminated, _, info = env.step(np.array([1.0, 0.0], np.float32))
    assert (terminated, info["is_success"], info["collision"]) == (True, True, False)
    assert reward > 9.0


def test_the_reward_is_the_progress_in_metres() -> None:
    env = _started(obstacles=0, max_episode_steps=7)
    before = float(np.linalg.norm(env.map.goal - env.map.start))
    total, truncated = 0.0, False
    for _ in range(7):
        assert not truncated
        _, reward, _, truncated, info = env.step(np.array([0.5, 0.1], np.float32))
        total += reward
    assert truncated
    assert total == pytest.approx(before - info["distance"] - 7 * 0.01)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), obstacles=st.integers(0, 12), gap=st.floats(0.5, 1.0))
def test_maps_keep_their_gaps_and_have_a_way(seed: int, obstacles: int, gap: float) -> None:
    drawn = draw_map(obstacles, gap, np.random.default_rng(seed))
    assert drawn.obstacles.shape == (obstacles, 3)
    for first in range(obstacles):
        for second in range(first):
            apart = np.linalg.norm(drawn.obstacles[first, :2] - drawn.obstacles[second, :2])
            assert apart - drawn.obstacles[[first, second], 2].sum() >= gap - 1e-9
    assert drawn.clearance(drawn.start) > 0.2
    assert drawn.clearance(drawn.goal) > 0.2


def test_a_closed_field_has_no_way() -> None:
    from entroreg.envs.navigation.maps import _has_way

    wall = np.array([[5.0, y, 0.5] for y in np.arange(-3.0, 3.1, 0.75)])
    ends = np.array([0.8, 0.0]), np.array([9.2, 0.0])
    assert not _has_way(Map(*ends, wall))
    assert _has_way(Map(*ends, wall[:-2]))


def test_the_seed_decides_the_map_and_the_noise() -> None:
    one, two = (NavigationEnv(lidar_noise=0.1) for _ in range(2))
    first, second = one.reset(seed=3)[0], two.reset(seed=3)[0]
    assert np.array_equal(first, second)
    for _ in range(5):
        action = one.action_space.sample()
        assert np.array_equal(one.step(action)[0], two.step(action)[0])
    assert not np.array_equal(one.reset(seed=4)[0], first)
    assert not np.array_equal(one.reset()[0], one.reset()[0])


def test_a_restored_state_goes_on_to_the_bit() -> None:
    env = _started(5, lidar_noise=0.05)
    rng = np.random.default_rng(0)
    for _ in range(8):
        env.step(rng.uniform(-1, 1, 2).astype(np.float32))
    state = env.state()
    actions = rng.uniform(-1, 1, (10, 2)).astype(np.float32)
    expected = [env.step(action) for action in actions]
    other = _started(99, lidar_noise=0.05)
    for target in (env, other):
        target.restore(state)
        for action, (observation, reward, *ends, _) in zip(actions, expected, strict=True):
            found = target.step(action)
            assert np.array_equal(found[0], observation)
            assert found[1] == reward
            assert list(found[2:4]) == ends


def test_simulated_plans_are_what_driving_them_gives() -> None:
    env = _started(1)
    for _ in range(5):
        env.step(np.array([1.0, 0.2], np.float32))
    state = env.state()
    plans = np.random.default_rng(0).uniform(-1, 1, (6, 12, 2)).astype(np.float32)
    plans[0] = (1.0, 0.0)
    plans[1] = (0.3, 1.0)
    found = env.simulate(plans)
    assert np.array_equal(env.state()["physics"], state["physics"])
    assert env.state()["random"] == state["random"]
    for place, plan in enumerate(plans):
        env.restore(state)
        for step, action in enumerate(plan):
            *_, info = env.step(action)
            assert info["collision"] == (step == found.collision_step[place])
            if info["collision"]:
                break
            assert np.array_equal(info["position"], found.positions[place, step])
            assert np.array_equal(info["velocity"], found.velocities[place, step])
            assert info["distance"] == pytest.approx(found.distances[place, step])
        else:
            assert found.collision_step[place] == len(plan)
    assert (found.collision_step < 12).any()


@pytest.mark.parametrize("vector", ["sync", "async"])
def test_it_vectorises(vector: str) -> None:
    envs = gymnasium.make_vec("entroreg/Navigation-v0", num_envs=2, vectorization_mode=vector)
    try:
        observations, _ = envs.reset(seed=0)
        assert observations.shape == (2, 37)
        assert envs.step(envs.action_space.sample())[0].shape == (2, 37)
        assert np.array_equal(observations[0], NavigationEnv().reset(seed=0)[0])
    finally:
        envs.close()


def test_the_force_is_what_the_floor_carries() -> None:
    model = build_model(draw_map(0, 1.0, np.random.default_rng(0)), friction=0.25)
    assert np.allclose(model.actuator_forcerange, [[-0.25 * GRAVITY, 0.25 * GRAVITY]] * 2)
    assert control_period() == pytest.approx(0.1)


def test_bad_input() -> None:
    for call, message in (
        (lambda: NavigationEnv(friction=-0.1), r"^friction must be finite and above 0, got -0.1$"),
        (lambda: NavigationEnv(lidar_noise=-1.0), r"^lidar_noise must be finite and at least 0"),
        (lambda: NavigationEnv(obstacles=-1), r"^obstacles must be finite and at least 0"),
        (lambda: NavigationEnv(obstacles=2.5), r"^obstacles must be a whole number, got 2.5$"),
        (lambda: NavigationEnv(max_episode_steps=0), r"^max_episode_steps must be finite and at least 1"),
        (lambda: NavigationEnv(render_mode="human"), r"^render_mode must be None or 'rgb_array', got 'human'$"),
        (lambda: _started(gap=0.3), r"^gap must be between the robot's diameter, 0.4, and the field's width, 6.0"),
        (lambda: _started(obstacles=100), r"^100 obstacles with gaps of 1.2 m must fit the field and leave a way"),
        (lambda: _started().step(np.zeros(3)), r"^actions must have shape \(2,\), got \(3,\)$"),
        (lambda: _started().step(np.array([np.nan, 0.0])), r"^actions must be finite, got NaN or infinity"),
        (lambda: _started().simulate(np.zeros((2, 2))), r"^plans must have shape \(N, T, 2\), got \(2, 2\)$"),
        (lambda: _started().simulate(np.full((1, 2, 2), np.inf)), r"^actions must be finite"),
        (lambda: _started().restore({}), r"^state of NavigationEnv does not fit: missing keys"),
        (lambda: draw_map(-1, 1.0, np.random.default_rng(0)), r"^obstacles must be at least 0, got -1$"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^friction must be a number, got str$"):
        NavigationEnv(friction="ice")  # type: ignore[arg-type]
    plans, unstarted = np.zeros((1, 2, 2)), NavigationEnv(render_mode="rgb_array")
    for call in (
        lambda: unstarted.step(np.zeros(2)),
        unstarted.state,
        unstarted.render,
        lambda: unstarted.simulate(plans),
        lambda: unstarted.position,
    ):
        with pytest.raises(RuntimeError, match=r"^reset must be called first$"):
            call()
