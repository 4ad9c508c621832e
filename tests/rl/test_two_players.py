"""The loop of adversarial training: who learns when, on what, and that it goes on exactly after a stop."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from entroreg import GammaCurriculum
from entroreg.agents import QARL, RARL
from entroreg.agents.adversarial import (
    ConstantTemperature,
    LinearTemperature,
    PlayerSettings,
    PointCurriculum,
    TwoPlayers,
    force_curriculum,
    homogeneous,
    mixed_nash,
    worst_parameter_sac,
)
from entroreg.agents.adversarial.players import TEMPERATURE, Frozen, build_player
from entroreg.checkpoint import CheckpointError
from entroreg.controllers import Dual, FromObservation
from entroreg.envs import Forces, find_set

TASK = "InvertedPendulum-v5"
FORCES = Forces({"pole": ("Fx", "Fz")}, 3.0)
SMALL = PlayerSettings(
    net=(16,),
    learning_starts=40,
    batch_size=16,
    learning_rate=1e-3,
    buffer_size=2_000,
    device="cpu",
    engine="eager",
)
UNREACHED = 1e9  # a floor


@pytest.fixture(autouse=True)
def _no_floor_warning() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the curriculum has not moved")
        yield


def _qarl(floor: float = UNREACHED, **kwargs: Any) -> QARL:
    return QARL(TASK, floor, SMALL, seed=0, **kwargs)


def _weights(player: Any) -> list[torch.Tensor]:
    return [value.clone() for value in player.policy.state_dict().values()]


def _equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def _memory(player: Any) -> np.ndarray:
    return np.array(player.replay_buffer.observations[: player.replay_buffer.size(), 0])


def test_only_the_player_whose_turn_it_is_stores_and_updates() -> None:
    from entroreg.agents.adversarial.phase import play_phase

    agent = _qarl()
    agent.learn(1)  # one iteration, with the loggers set up
    for name, player, other in (
        ("adversary", agent.adversary, agent.protagonist),
        ("protagonist", agent.protagonist, agent.adversary),
    ):
        before, kept, stored = _weights(player), _weights(other), other.replay_buffer.size()  # type: ignore[union-attr]
        filled = player.replay_buffer.size()  # type: ignore[union-attr]
        record = play_phase(player, agent._sides[name], [0.05] * 20, seed=3)
        assert len(record.returns) == 20
        assert player.replay_buffer.size() == filled + record.steps  # type: ignore[union-attr]
        assert not _equal(before, _weights(player)), "after learning_starts it must have learned"
        assert _equal(kept, _weights(other))
        assert other.replay_buffer.size() == stored  # type: ignore[union-attr]


def test_both_players_see_the_same_temperature_through_each_episode() -> None:
    agent = _qarl()
    agent.learn(1)
    draws, *_ = np.random.SeedSequence([0x51524C, 0, 0]).generate_state(3)
    drawn = GammaCurriculum(1.0).draw(5, np.random.default_rng(draws))
    for player in (agent.protagonist, agent.adversary):
        taus = _memory(player)[:, -1]
        changes = np.flatnonzero(np.diff(taus)) + 1
        assert np.allclose(taus[[0, *changes]], drawn, rtol=1e-6)
        dones = np.flatnonzero(player.replay_buffer.dones[: len(taus), 0])  # type: ignore[union-attr]
        assert np.array_equal(changes, dones[:-1] + 1), "it changes where an episode ends, and only there"
        following = np.array(player.replay_buffer.next_observations[: len(taus), 0, -1])  # type: ignore[union-attr]
        assert np.array_equal(following, taus), "the last observation of an episode has its own temperature too"


def test_the_adversary_is_paid_what_the_protagonist_loses() -> None:
    agent = _qarl()
    agent.learn(1)
    assert set(np.unique(agent.protagonist.replay_buffer.rewards)) <= {0.0, 1.0}  # type: ignore[union-attr]
    paid = agent.adversary.replay_buffer.rewards[: agent.adversary.replay_buffer.size()]  # type: ignore[union-attr]
    assert paid.min() == -1.0
    assert paid.max() <= 0.0


def test_the_curriculum_is_told_discounted_returns_of_the_protagonist() -> None:
    told: list[tuple[list[float], list[float]]] = []

    class Listener(ConstantTemperature):
        def observe(self, temperatures: Any, returns: Any) -> None:
            told.append((list(temperatures), list(returns)))

    agent = TwoPlayers(TASK, Listener(0.25), protagonist=SMALL, adversary=SMALL, episodes=3, seed=1)
    agent.learn(1)
    ((temperatures, returns),) = told
    assert temperatures == [0.25] * 6
    expected = []
    for player, sign in ((agent.adversary, -1.0), (agent.protagonist, 1.0)):
        buffer: Any = player.replay_buffer
        total, discount = 0.0, 1.0
        for reward, done in zip(buffer.rewards[: buffer.size(), 0], buffer.dones[: buffer.size(), 0], strict=True):
            total, discount = total + discount * sign * float(reward), discount * 0.99
            if done:
                expected.append(total)
                total, discount = 0.0, 1.0
    assert returns == pytest.approx(expected, rel=1e-6)
    assert agent.num_timesteps == agent.protagonist.num_timesteps + agent.adversary.num_timesteps


def test_the_adversarys_coefficient_is_the_temperature_and_the_protagonists_is_learned() -> None:
    agent = _qarl()
    assert isinstance(agent.adversary.controller, FromObservation)
    assert isinstance(agent.protagonist.controller, Dual)
    assert float(agent.protagonist.controller.value) == pytest.approx(0.005)
    assert isinstance(RARL(TASK, SMALL).adversary.controller, Dual)
    assert isinstance(homogeneous(TASK, 1.0, SMALL).protagonist.controller, FromObservation)


def test_force_curriculum_scales_the_force() -> None:
    agent = force_curriculum(TASK, UNREACHED, SMALL, seed=2)
    agent.learn(1)
    side = agent._sides["protagonist"]
    assert side.pushed.scale == side._temperature > 0.0
    assert agent.curriculum.mean == pytest.approx(0.02)
    assert isinstance(agent.adversary.controller, Dual)


def test_the_strongest_adversary_has_all_of_its_force_or_no_temperature(tmp_path: Path) -> None:
    observations = np.random.default_rng(0).normal(size=(9, 4))
    for agent, last in ((force_curriculum(TASK, UNREACHED, SMALL, seed=2), 1.0), (_qarl(), 0.0)):
        agent.learn(200)
        extended = np.c_[observations, np.full(9, last)]
        expected = agent.protagonist.predict(extended, deterministic=True)[0]
        assert np.array_equal(agent.predict(observations)[0], expected)
        assert np.array_equal(
            agent.push(observations[0]), agent.adversary.predict(extended[0], deterministic=True)[0]
        )
        agent.plain_protagonist().save(tmp_path / "protagonist.zip")
        stock = stable_baselines3.SAC.load(tmp_path / "protagonist.zip", device="cpu")
        assert stock.predict(observations, deterministic=True)[0] == pytest.approx(expected, abs=1e-5)
        other = agent.protagonist.predict(np.c_[observations, np.full(9, 1.0 - last)], deterministic=True)[0]
        assert np.abs(other - expected).max() > 1e-3, "what the last component is matters"


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_resumed_training_goes_on_exactly(engine: str, tmp_path: Path) -> None:
    def fresh() -> QARL:
        return QARL(TASK, 5.0, replace(SMALL, engine=engine), seed=4)

    straight = fresh()
    straight.learn(10_000, on_iteration=lambda agent: agent.iterations < 8)
    straight.save(tmp_path / "run")
    assert straight.curriculum.state_dict()["pairs"], "some pairs must wait for this to be a test"
    straight.learn(200, reset_num_timesteps=False)
    resumed = QARL.load(tmp_path / "run").learn(200, reset_num_timesteps=False)
    assert type(resumed) is QARL
    assert resumed.num_timesteps == straight.num_timesteps
    assert resumed.iterations == straight.iterations
    for mine, other in ((resumed.protagonist, straight.protagonist), (resumed.adversary, straight.adversary)):
        assert _equal(_weights(mine), _weights(other))
        assert np.array_equal(_memory(mine), _memory(other))
        assert mine._n_updates == other._n_updates > 0
    assert resumed.curriculum.state_dict() == straight.curriculum.state_dict()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RARL(TASK, SMALL, seed=1),
        lambda: QARL(TASK, LinearTemperature(100), SMALL, seed=1),
        lambda: QARL(TASK, PointCurriculum(3.0, samples=20), SMALL, seed=1),
        lambda: force_curriculum(TASK, 3.0, SMALL, seed=1),
        lambda: homogeneous(TASK, 3.0, SMALL, seed=1),
        lambda: mixed_nash(TASK, SMALL, seed=1),
    ],
    ids=["rarl", "linear", "point", "force", "homogeneous", "mixed-nash"],
)
def test_every_relative_resumes(make: Callable[[], TwoPlayers], tmp_path: Path) -> None:
    straight = make()
    straight.learn(200)
    straight.save(tmp_path / "run")
    straight.learn(60, reset_num_timesteps=False)
    resumed = TwoPlayers.load(tmp_path / "run").learn(60, reset_num_timesteps=False)
    assert _equal(_weights(resumed.protagonist), _weights(straight.protagonist))
    assert resumed.curriculum.state_dict() == straight.curriculum.state_dict()
    assert resumed.scales_force == straight.scales_force


def test_the_protagonist_is_a_zip_for_stable_baselines3(tmp_path: Path) -> None:
    agent = _qarl()
    agent.learn(300)
    plain = agent.plain_protagonist()
    plain.save(tmp_path / "protagonist.zip")
    stock = stable_baselines3.SAC.load(tmp_path / "protagonist.zip", device="cpu")
    observations = np.random.default_rng(0).normal(size=(50, 4))
    assert stock.observation_space.shape == (4,)
    assert np.array_equal(stock.predict(observations, deterministic=True)[0], agent.predict(observations)[0])
    with torch.no_grad():
        given = torch.as_tensor(observations, dtype=torch.float32)
        actions = torch.rand(50, 1) * 2 - 1
        zeros = torch.zeros(50, 1)
        mine = agent.protagonist.critic(torch.cat([given, zeros], dim=1), actions)
        for q, expected in zip(stock.critic(given, actions), mine, strict=True):
            torch.testing.assert_close(q, expected, rtol=0.0, atol=1e-5)  # another order of the same sum
    moments = stock.actor.optimizer.state_dict()["state"][0]["exp_avg"]
    full = agent.protagonist.actor.optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, full[:, :4])
    stock.set_env(gym.make(TASK))
    stock.learn(120)  # and it trains on


def test_a_protagonist_without_a_learned_coefficient_is_a_zip_too(tmp_path: Path) -> None:
    agent = homogeneous(TASK, UNREACHED, SMALL)
    agent.learn(100)
    agent.plain_protagonist().save(tmp_path / "protagonist.zip")
    stock = stable_baselines3.SAC.load(tmp_path / "protagonist.zip", device="cpu")
    assert float(stock.ent_coef) == 0.0
    observations = np.random.default_rng(0).normal(size=(9, 4))
    assert np.array_equal(stock.predict(observations, deterministic=True)[0], agent.predict(observations)[0])


def test_predict_takes_one_observation_or_several() -> None:
    agent = _qarl()
    many = np.random.default_rng(0).normal(size=(3, 4))
    together, _ = agent.predict(many)
    assert np.allclose(np.stack([agent.predict(one)[0] for one in many]), together, atol=1e-6)
    assert agent.push(many[0]).shape == (2,)


def test_a_frozen_player_acts_as_its_policy_does() -> None:
    agent = _qarl()
    observation = np.random.default_rng(0).normal(size=5)
    expected = agent.protagonist.predict(observation, deterministic=True)[0]
    assert Frozen(agent.protagonist, stochastic=False)(observation) == pytest.approx(expected, abs=1e-6)
    fast = QARL(TASK, 1.0, replace(SMALL, engine="auto"), seed=0).protagonist
    assert Frozen(fast, stochastic=False)(observation) == pytest.approx(expected, abs=1e-5)
    torch.manual_seed(0)
    sampled = [float(Frozen(fast)(observation)[0]) for _ in range(2_000)]
    torch.manual_seed(0)
    stock = [float(agent.protagonist.predict(observation, deterministic=False)[0][0]) for _ in range(2_000)]
    assert sampled == pytest.approx(stock, abs=1e-5)


def test_callbacks_end_the_training() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 30

    agent = _qarl()
    agent.learn(10_000, callback=Stop())
    assert agent.protagonist.num_timesteps == 30

    class AtTheEndOfAPhase(BaseCallback):
        episodes = 0

        def _on_step(self) -> bool:
            self.episodes += int(self.locals["dones"][0])
            return not (self.locals["dones"][0] and self.episodes == 5)

    whole = _qarl().learn(10_000, callback=AtTheEndOfAPhase())
    assert whole.iterations == 1, "what was asked for at a phase's last step counts too"
    counted = _qarl().learn(10_000, on_iteration=lambda agent: agent.iterations < 3)
    assert counted.iterations == 3


def test_temperatures_are_in_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    agent = _qarl(tensorboard_log=str(tmp_path))
    agent.learn(500)
    (folder,) = tmp_path.iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {
        "adversary/train/ent_coef",
        "curriculum/held_back",
        "curriculum/return_floor",
        "curriculum/shape",
        "curriculum/temperature_drawn",
        "curriculum/temperature_mean",
        "protagonist/train/ent_coef",
        "time/adversary_update_seconds",
        "time/curriculum_seconds",
    } <= scalars
    assert {event.value for event in events.Scalars("curriculum/shape")} == {50.0}
    coefficients = [event.value for event in events.Scalars("adversary/train/ent_coef")]
    assert 0.02 < np.mean(coefficients) < 0.08, "the mean of the batch's temperatures"


def test_a_floor_that_is_not_reached_is_said_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent = _qarl(UNREACHED).learn(600)
    messages = [str(w.message) for w in caught if "curriculum" in str(w.message)]
    assert len(messages) == 1
    assert "in the first quarter of the training: the mean discounted return is" in messages[0]
    assert "the floor 1e+09; lower the floor, weaken the forces or train longer" in messages[0]
    assert agent.curriculum.held_back == agent.curriculum.updates > 0  # type: ignore[attr-defined]


def test_the_curriculum_moves_where_the_floor_allows() -> None:
    agent = _qarl(-1.0).learn(600)
    assert agent.curriculum.held_back == 0  # type: ignore[attr-defined]
    assert agent.curriculum.shape < 45.0  # type: ignore[attr-defined]


def test_nan_rewards_stop_the_training() -> None:
    class Broken(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            observation, _, *rest = self.env.step(action)
            return (observation, float("nan"), *rest)

    agent = TwoPlayers(
        lambda: Broken(gym.make(TASK)), GammaCurriculum(1.0), forces=FORCES, protagonist=SMALL, seed=0
    )
    with pytest.raises(
        FloatingPointError, match="adversary: reward of environment 0 became nan at environment step 1"
    ):
        agent.learn(2_000)


def test_a_temperature_that_is_not_observed_is_refused() -> None:
    settings = replace(SMALL, ent_coef=TEMPERATURE)
    with pytest.raises(
        ValueError, match="ent_coef 'temperature' needs a view of the task with ObservedTemperature"
    ):
        build_player(gym.make(TASK), settings, 0)
    with pytest.raises(ValueError, match="ent_coef must not be 'temperature'"):
        worst_parameter_sac(TASK, find_set(TASK, "rrls-1"), settings)


def test_a_floor_may_be_of_numpys_types() -> None:
    assert QARL(TASK, np.float32(3.0), SMALL).curriculum.return_floor == 3.0  # type: ignore[attr-defined]


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="forces must be given for a task that is a function"):
        QARL(lambda: gym.make(TASK), 1.0)
    with pytest.raises(ValueError, match=r"unknown task with forces 'InvertedPendulun-v5': did you mean"):
        QARL("InvertedPendulun-v5", 1.0)
    with pytest.raises(TypeError, match="expected an environment on MuJoCo"):
        QARL("Pendulum-v1", 1.0, forces=FORCES)
    with pytest.raises(ValueError, match="unknown body 'pol': did you mean 'pole'"):
        QARL(TASK, 1.0, forces=Forces({"pol": ("Fx",)}, 1.0))
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        QARL(TASK, 1.0, SMALL, episodes=0)
    with pytest.raises(ValueError, match="episode_steps must be at least 1, got 0"):
        QARL(TASK, 1.0, SMALL, episode_steps=0)
    with pytest.raises(ValueError, match="total_timesteps must be at least 1, got 0"):
        _qarl().learn(0)
    with pytest.raises(ValueError, match="net must hold widths of at least 1"):
        PlayerSettings(net=())


def test_a_training_on_code_asks_for_it_when_loaded(tmp_path: Path) -> None:
    agent = QARL(lambda: gym.make(TASK), 1.0, SMALL, forces=FORCES)
    agent.learn(1)
    agent.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"task must be given to load .*: the saved one is code"):
        QARL.load(tmp_path / "run")
    again = QARL.load(tmp_path / "run", task=lambda: gym.make(TASK))
    assert again.forces == FORCES
    (tmp_path / "run" / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError):
        QARL.load(tmp_path / "run", task=lambda: gym.make(TASK))


def test_a_logger_of_ones_own_gets_both_players() -> None:
    written: dict[str, Any] = {}

    class Kept(KVWriter):
        def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
            written.update(key_values)

        def close(self) -> None:
            pass

    agent = _qarl()
    agent.set_logger(Logger(None, [Kept()]))
    for _ in range(3):
        agent.iterate()
    assert {"protagonist/train/ent_coef", "adversary/train/ent_coef", "curriculum/temperature_mean"} <= set(written)
    assert written["protagonist/train/ent_coef"] != written["adversary/train/ent_coef"]


@pytest.mark.slow
def test_the_curriculum_reaches_its_target_on_a_pendulum() -> None:
    settings = replace(SMALL, net=(64, 64), batch_size=64, learning_starts=500, buffer_size=100_000, engine="auto")
    agent = QARL(TASK, 50.0, settings, seed=0)
    agent.learn(400_000, on_iteration=lambda agent: not agent.curriculum.finished)  # type: ignore[attr-defined]
    assert agent.curriculum.shape == 1.0  # type: ignore[attr-defined]
    assert agent.curriculum.held_back >= 1  # type: ignore[attr-defined]
