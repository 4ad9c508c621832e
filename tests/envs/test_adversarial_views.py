"""One task, two environments: same physics, opposite rewards, forces that act where and how they should."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from entroreg.envs import (
    ActionShare,
    AdversaryView,
    Forces,
    ObservedTemperature,
    ProtagonistView,
    PushedTask,
    find_forces,
    make_task,
)
from entroreg.envs.adversarial import forces as tables
from entroreg.envs.tasks import mujoco_of

TASK = "Hopper-v5"


def _pushed(task: str = TASK, forces: Forces | None = None) -> PushedTask:
    return PushedTask(gym.make(task), find_forces(task) if forces is None else forces)


def test_without_force_it_is_the_plain_task() -> None:
    for opponent in (None, lambda _observation: np.zeros(2)):
        view, plain = ProtagonistView(_pushed(), opponent), gym.make(TASK)
        mine, theirs = view.reset(seed=2)[0], plain.reset(seed=2)[0]
        rng = np.random.default_rng(0)
        for _ in range(30):
            assert np.array_equal(mine, theirs)
            action = rng.uniform(-1, 1, 3).astype(np.float32)
            (mine, *mine_rest), (theirs, *theirs_rest) = view.step(action), plain.step(action)
            assert mine_rest[:3] == theirs_rest[:3]


def test_both_sides_see_the_same_game_with_opposite_rewards() -> None:
    rng = np.random.default_rng(1)
    actions, pushes = rng.uniform(-1, 1, (25, 3)).astype(np.float32), rng.uniform(-1, 1, (25, 2))
    turn = iter(range(25)), iter(range(25))
    defence = ProtagonistView(_pushed(), lambda _o: pushes[next(turn[0])])
    attack = AdversaryView(_pushed(), lambda _o: actions[next(turn[1])])
    assert attack.action_space == gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    assert np.array_equal(defence.reset(seed=5)[0], attack.reset(seed=5)[0])
    plain_total = total = 0.0
    for step in range(25):
        mine, reward, *ends, _ = defence.step(actions[step])
        theirs, paid, *their_ends, _ = attack.step(pushes[step])
        assert np.array_equal(mine, theirs)
        assert paid == -reward
        assert ends == their_ends
        total += reward
        plain_total -= paid
    assert total == plain_total


def test_a_force_accelerates_by_force_over_mass() -> None:
    import mujoco

    model = mujoco.MjModel.from_xml_string(
        "<mujoco><option gravity='0 0 0'/><worldbody><body name='ball'><freejoint/>"
        "<geom size='.1' mass='2'/></body></worldbody></mujoco>"
    )

    class Ball(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (6,))
        action_space = gym.spaces.Box(-1.0, 1.0, (1,))

        def __init__(self) -> None:
            self.model, self.data = model, mujoco.MjData(model)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            mujoco.mj_resetData(self.model, self.data)
            return np.array(self.data.qvel), {}

        def step(self, action: Any) -> Any:
            mujoco.mj_step(self.model, self.data)
            return np.array(self.data.qvel), 0.0, False, False, {}

    task = PushedTask(Ball(), Forces({"ball": ("Fx", "Fz", "Ty")}, 4.0))
    task.reset()
    task.push(np.array([1.0, -0.5, 0.0]))
    for _ in range(10):
        velocity = task.step(np.zeros(1))[0]
    seconds = 10 * model.opt.timestep
    assert velocity[[0, 2]] == pytest.approx([4.0 / 2.0 * seconds, -2.0 / 2.0 * seconds])
    assert np.array_equal(velocity[[1, 3, 4, 5]], np.zeros(4))
    task.scale = 0.25
    task.push(np.array([9.0, 0.0, 1.0]))  # clipped to the limit, of which a quarter is in force
    assert task.env.data.xfrc_applied[1].tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]  # type: ignore[attr-defined]
    task.reset()
    assert not task.env.data.xfrc_applied.any()  # type: ignore[attr-defined]


@pytest.mark.parametrize("shares", [[1.0], [1.0, 0.0, 0.0], [np.nan, 0.0], [0.0, np.nan]])
def test_shares_that_are_no_push_are_refused(shares: list[float]) -> None:
    task = PushedTask(gym.make("InvertedPendulum-v5"), find_forces("InvertedPendulum-v5"))
    task.reset(seed=0)
    task.push(np.ones(2))
    with pytest.raises(ValueError, match="shares of the forces must be 2 numbers, got"):
        task.push(np.array(shares))
    assert mujoco_of(task)[1].xfrc_applied.any(), "what acted goes on acting"


def test_outside_the_region_nothing_acts() -> None:
    forces = Forces({"torso": ("Fx",), "foot": ("Fx",)}, 1.0, ((0.02, 5.0), (-1.0, 1.0)))
    task = _pushed(forces=forces)
    task.reset(seed=0)
    model, data = mujoco_of(task)
    torso, foot = model.body("torso").id, model.body("foot").id
    for torso_x, foot_x in ((0.0, 1.0), (1.0, 0.0), (6.0, 6.0), (1.0, 1.0)):
        data.xipos[torso, 0], data.xipos[foot, 0] = torso_x, foot_x
        task.push(np.ones(2))
        expected = [float(0.02 <= x <= 5.0) for x in (torso_x, foot_x)]
        assert data.xfrc_applied[[torso, foot], 0].tolist() == expected


def test_the_wind_blows_in_its_region_only() -> None:
    env = gym.make("entroreg/Windy-v0", wind=(0.0, 1.0, 0.0), limit=3.0, region=((-1.0, 1.0), (-9.0, 9.0)))
    env.reset(seed=0)
    _, data = mujoco_of(env)
    env.step(np.zeros(8, np.float32))
    assert data.xfrc_applied[1].tolist() == [0.0, 3.0, 0.0, 0.0, 0.0, 0.0]
    away = gym.make("entroreg/Windy-v0")  # the ant starts before the region
    away.reset(seed=0)
    away.step(np.zeros(8, np.float32))
    assert not mujoco_of(away)[1].xfrc_applied.any()


def test_an_episode_has_one_temperature_and_it_is_observed() -> None:
    temperatures = iter([0.05, 0.001, 0.2])
    env = ObservedTemperature(gym.make("InvertedPendulum-v5"), lambda: next(temperatures))
    assert env.observation_space.shape == (5,)
    assert env.observation_space.low[-1] == 0.0  # type: ignore[attr-defined]
    for expected in (0.05, 0.001, 0.2):
        observation, _ = env.reset(seed=0)
        assert observation[-1] == expected
        for _ in range(3):
            assert env.step(np.zeros(1, np.float32))[0][-1] == expected
            assert env.temperature == expected
    plain = gym.make("InvertedPendulum-v5").reset(seed=0)[0]
    assert np.array_equal(ObservedTemperature(gym.make("InvertedPendulum-v5")).reset(seed=0)[0][:-1], plain)


def test_bad_temperatures_and_spaces_are_refused() -> None:
    env = ObservedTemperature(gym.make("InvertedPendulum-v5"), lambda: -0.1)
    with pytest.raises(ValueError, match=r"temperature must be finite and at least 0, got -0\.1"):
        env.reset()
    with pytest.raises(TypeError, match="expected vectors as observations"):
        ObservedTemperature(gym.make("Blackjack-v1"))


@pytest.mark.parametrize("task", tables._GYMNASIUM)
def test_forces_of_gymnasiums_tasks_fit(task: str, capfd: pytest.CaptureFixture[str]) -> None:
    _assert_fits(task)


@pytest.mark.parametrize(
    "task",
    [
        "acrobot-swingup",
        "ball_in_cup-catch",
        "cartpole-swingup",
        "cheetah-run",
        "hopper-hop",
        "pendulum-swingup",
        "quadruped-walk",
        "reacher-easy",
        "walker-walk",
    ],
)
def test_forces_of_dm_controls_tasks_fit(task: str, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shimmy")
    _assert_fits(f"dm_control/{task}-v0")


def _assert_fits(name: str) -> None:
    """The bodies exist, and a push in each direction alone moves the task: none of them does nothing."""
    task = PushedTask(make_task(name), find_forces(name))
    _, data = mujoco_of(task)
    count = task.force_space.shape[0]
    middle = np.clip(np.zeros(task.action_space.shape), task.action_space.low, task.action_space.high)  # type: ignore[attr-defined,type-var]

    def end(shares: np.ndarray) -> np.ndarray:
        task.reset(seed=0)
        for _ in range(3):
            task.push(shares)
            task.step(middle)
        return np.concatenate([data.qpos, data.qvel])

    still = end(np.zeros(count))
    for direction in range(count):
        assert not np.array_equal(end(np.eye(count)[direction]), still), direction


def test_unknown_tasks_bodies_and_axes() -> None:
    with pytest.raises(ValueError, match="unknown task with forces 'Hoper-v5': did you mean 'Hopper-v5'"):
        find_forces("Hoper-v5")
    with pytest.raises(ValueError, match="unknown domain of dm_control with forces 'walkr': did you mean 'walker'"):
        find_forces("dm_control/walkr-walk-v0")
    with pytest.raises(ValueError, match="unknown body 'fot': did you mean 'foot'"):
        _pushed(forces=Forces({"fot": ("Fx",)}, 1.0))
    with pytest.raises(ValueError, match="unknown axis of foot 'fx'"):
        Forces({"foot": ("fx",)}, 1.0)
    with pytest.raises(ValueError, match="limit must be finite and above 0, got 0"):
        Forces({"foot": ("Fx",)}, 0.0)
    with pytest.raises(ValueError, match="forces must act on at least one body, got none"):
        Forces({}, 1.0)
    with pytest.raises(ValueError, match=r"the region must end after it begins, got 2\.0 to 1\.0"):
        Forces({"foot": ("Fx",)}, 1.0, ((2.0, 1.0), (0.0, 1.0)))
    with pytest.raises(TypeError, match="expected an environment on MuJoCo"):
        PushedTask(gym.make("Pendulum-v1"), find_forces(TASK))


def test_a_share_of_each_action_is_the_adversarys() -> None:
    mixed, plain = ActionShare(0.25).applied_to(gym.make("InvertedPendulum-v5")), gym.make("InvertedPendulum-v5")
    mixed.reset(seed=0)
    plain.reset(seed=0)
    mixed.push(np.array([-1.0]))
    found = mixed.step(np.array([2.0], np.float32))[0]
    assert np.array_equal(found, plain.step(np.array([0.75 * 2.0 - 0.25 * 3.0], np.float32))[0])
    mixed.scale = 0.5
    mixed.push(np.array([7.0]))  # clipped
    found = mixed.step(np.array([1.0], np.float32))[0]
    np.testing.assert_allclose(found, plain.step(np.array([0.875 * 1.0 + 0.125 * 3.0], np.float32))[0], rtol=1e-6)
    assert np.array_equal(mixed.reset(seed=1)[0], plain.reset(seed=1)[0])
    action = np.array([1.0], np.float32)
    assert np.array_equal(mixed.step(action)[0], plain.step(action)[0]), "an episode begins with nothing mixed in"


def test_bad_shares_and_actions_are_refused() -> None:
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share must be"):
            ActionShare(share)
    with pytest.raises(TypeError, match="expected vectors as actions"):
        ActionShare().applied_to(gym.make("CartPole-v1"))
