"""What may be changed at load, and agents whose controller holds code and is therefore not in the zip."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import CheckpointCallback
from torch import nn

from entroreg import Dual, Fixed, PerStateDual, Scheduled
from entroreg.agents import SAC, saved_controller_state
from entroreg.schedules import LinearSchedule

Build = Callable[..., Any]
OBSERVATION = np.array([0.6, 0.8, 0.1], dtype=np.float32)
ADVICE = r"can only predict: to train, .* saved_controller_state\(path\), .* load\(\.\.\., ent_coef=controller\)"


def _zip(agent: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a per-state alpha loads")
        agent.save(buffer)
    buffer.seek(0)
    return buffer


@pytest.fixture(scope="module")
def trained(build: Build) -> bytes:
    return _zip(build(SAC).learn(60)).getvalue()


def _load(archive: bytes, **settings: Any) -> Any:
    return SAC.load(io.BytesIO(archive), env=gym.make("Pendulum-v1"), **settings)


def test_ent_coef_at_load_takes_effect(trained: bytes) -> None:
    fixed = _load(trained, ent_coef=0.125)
    assert isinstance(fixed.controller, Fixed)
    assert fixed.ent_coef_optimizer is None
    fixed.learn(40)
    assert fixed.logger.name_to_value["train/ent_coef"] == 0.125
    assert stable_baselines3.SAC.load(_zip(fixed)).ent_coef == 0.125

    fresh = _load(trained, ent_coef="auto_0.5")
    assert float(fresh.controller.value) == pytest.approx(0.5)
    assert fresh.controller.problem.step == 0
    assert fresh._alpha_follows_learning_rate

    dual = Dual(target=-2.0, initial=0.25, learning_rate=0.01)
    assert _load(trained, ent_coef=dual).controller is dual
    scheduled = _load(trained, ent_coef=Scheduled(LinearSchedule(1.0, 0.0, steps=64)))
    scheduled.learn(40)
    assert scheduled.ent_coef == 1.0 - scheduled.controller.step / 64 < 1.0


def test_a_number_can_become_learned(build: Build) -> None:
    archive = _zip(build(SAC, ent_coef=0.2).learn(30)).getvalue()
    learned = _load(archive, ent_coef="auto").learn(60)
    assert float(learned.controller.value) != 1.0
    assert stable_baselines3.SAC.load(_zip(learned)).ent_coef == "auto"


def test_target_entropy_at_load_takes_effect(trained: bytes) -> None:
    agent = _load(trained, target_entropy=-3.0)
    assert agent.target_entropy == agent.controller.problem.target == -3.0
    assert agent.controller.problem.step == 40  # the rest of the controller's state is kept
    agent.learn(40)
    assert agent.logger.name_to_value["train/target_entropy"] == -3.0
    assert _load(_zip(agent).getvalue()).target_entropy == -3.0
    assert _load(trained, target_entropy=-3.0, ent_coef="auto").target_entropy == -3.0
    assert _load(trained, target_entropy="auto").target_entropy == -1.0


@pytest.mark.parametrize("schedule", [LinearSchedule(-1.0, -2.0, steps=100), lambda step: -1.0 - step / 100])
def test_a_target_schedule_at_load_is_followed(schedule: Any, trained: bytes) -> None:
    agent = _load(trained, target_entropy=schedule)
    assert agent.target_entropy == pytest.approx(-1.4)  # 40 updates are done
    agent.learn(40)
    done = agent.controller.problem.step
    assert agent.logger.name_to_value["train/target_entropy"] == pytest.approx(-1.0 - (done - 1) / 100)
    assert agent.target_entropy == pytest.approx(-1.0 - done / 100)


def test_a_controller_and_a_target_at_load_are_refused(trained: bytes) -> None:
    with pytest.raises(ValueError, match="target_entropy must stay 'auto' when ent_coef is a Dual"):
        _load(trained, ent_coef=Dual(-1.0), target_entropy=-2.0)
    with pytest.raises(ValueError, match=r"must be below 0\.6931 nats"):
        _load(trained, target_entropy=0.7)


def test_the_learning_rate_at_load(trained: bytes) -> None:
    agent = _load(trained, learning_rate=1e-2)
    agent.learn(40)
    assert agent.ent_coef_optimizer.param_groups[0]["lr"] == 1e-2
    assert agent.actor.optimizer.param_groups[0]["lr"] == 1e-2


def test_the_usual_custom_objects(trained: bytes) -> None:
    # rl_zoo3 loads agents of other Python versions with these.
    objects = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}
    agent = SAC.load(io.BytesIO(trained), custom_objects=objects)
    expected = SAC.load(io.BytesIO(trained)).predict(OBSERVATION, deterministic=True)[0]
    np.testing.assert_array_equal(agent.predict(OBSERVATION, deterministic=True)[0], expected)


def test_their_zip_with_an_unreachable_target_loads_with_another(build: Build) -> None:
    archive = _zip(build(stable_baselines3.SAC, target_entropy=3.0)).getvalue()
    with pytest.raises(ValueError, match=r"below 0\.6931 nats, .* got 3: alpha would grow without limit"):
        SAC.load(io.BytesIO(archive))
    assert SAC.load(io.BytesIO(archive), target_entropy=-1.0).target_entropy == -1.0


def _per_state() -> PerStateDual:
    return PerStateDual(nn.Linear(3, 1), target=-1.0, learning_rate=0.01)


def _dual_of_a_lambda() -> Dual:
    return Dual(lambda step: -1.0 - 0.001 * step, initial=0.5, maximum=0.9)


def _scheduled_by_a_lambda() -> Scheduled:
    return Scheduled(lambda step: 1.0 / (1 + step))


@pytest.mark.parametrize("make", [_per_state, _dual_of_a_lambda, _scheduled_by_a_lambda])
@pytest.mark.parametrize("saved_again", [False, True])
def test_a_controller_of_code(make: Callable[[], Any], saved_again: bool, build: Build, tmp_path: Any) -> None:
    agent = build(SAC, ent_coef=make()).learn(60)
    archive = _zip(agent)
    if saved_again:  # by an agent that could not restore it: the state must not be lost on the way
        archive = _zip(SAC.load(archive))
    path = tmp_path / "agent.zip"
    path.write_bytes(archive.getvalue())

    loaded = SAC.load(path, env=gym.make("Pendulum-v1"))
    np.testing.assert_array_equal(
        loaded.predict(OBSERVATION, deterministic=True)[0], agent.predict(OBSERVATION, deterministic=True)[0]
    )
    with pytest.raises(RuntimeError, match=ADVICE):
        loaded.learn(60)
    with pytest.raises(RuntimeError, match=ADVICE):
        loaded.train(1)

    controller = make()
    controller.load_state_dict(saved_controller_state(path.with_suffix("")))
    restored = SAC.load(path, env=gym.make("Pendulum-v1"), ent_coef=controller)
    assert restored.controller is controller
    if isinstance(controller, PerStateDual):
        features = torch.as_tensor(OBSERVATION).reshape(1, 3)
        assert torch.equal(controller.values(features), agent.controller.values(features))
    else:
        assert torch.equal(controller.value, agent.controller.value)
    step = controller.step if isinstance(controller, Scheduled) else controller.problem.step
    assert step == 40
    restored.learn(30)
    assert restored._n_updates > 40


def test_a_per_state_alpha_warns_at_each_save(build: Build, tmp_path: Any) -> None:
    agent = build(SAC, ent_coef=_per_state())
    text = (
        "a per-state alpha loads in stock Stable-Baselines3 for prediction only: training there would go on with a"
    )
    with pytest.warns(UserWarning, match=text) as record:
        agent.save(tmp_path / "agent")
    assert [warning.filename for warning in record] == [__file__]
    with pytest.warns(UserWarning, match=text):
        SAC.load(tmp_path / "agent").save(tmp_path / "again")


def test_no_state_in_a_zip_of_theirs(build: Build, tmp_path: Any) -> None:
    build(stable_baselines3.SAC).save(tmp_path / "theirs")
    with pytest.raises(ValueError, match=r"theirs holds no entroreg controller: it was saved by Stable-Baselines3"):
        saved_controller_state(tmp_path / "theirs")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda agent: cloudpickle.loads(cloudpickle.dumps(agent))])
def test_copies_are_whole_and_apart(copied: Callable[[Any], Any], build: Build, tensors: Any) -> None:
    agent = build(SAC, ent_coef=Dual(target=-1.0, learning_rate=0.05)).learn(40)
    other = copied(agent)
    assert other.log_ent_coef is other.controller.log_alpha
    assert other.ent_coef_optimizer is other.controller.optimizer
    assert other.ent_coef_optimizer.param_groups[0]["params"][0] is other.log_ent_coef
    before = tensors(agent)
    other.learn(20, reset_num_timesteps=False)
    assert other.num_timesteps == 60
    assert all(torch.equal(value, before[name]) for name, value in tensors(agent).items())
    assert not torch.equal(tensors(other)["ent_coef"], before["ent_coef"])


def test_checkpoints_during_training(build: Build, tmp_path: Any) -> None:
    build(SAC).learn(60, callback=CheckpointCallback(save_freq=30, save_path=str(tmp_path), name_prefix="sac"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sac_30_steps.zip", "sac_60_steps.zip"]
    assert SAC.load(tmp_path / "sac_30_steps").controller.problem.step == 9
    assert SAC.load(tmp_path / "sac_60_steps").controller.problem.step == 39


def test_a_compiled_policy_saves_and_loads(build: Build, differences: Any) -> None:
    agent = build(SAC)
    agent.policy = torch.compile(agent.policy, backend="eager")
    agent.learn(30)
    loaded = SAC.load(_zip(agent))
    assert loaded.predict(OBSERVATION, deterministic=True)[0] == agent.predict(OBSERVATION, deterministic=True)[0]
