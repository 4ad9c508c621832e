"""What SAC has beyond Stable-Baselines3: controllers, bounds, targets computed by hand, errors, the log."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import ReplayBufferSamples
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from entroreg import Dual, Fixed, FromObservation, PerStateDual, Scheduled
from entroreg.agents import SAC, losses
from entroreg.schedules import LinearSchedule

Build = Callable[..., Any]


class Record(BaseCallback):
    """Collects the log of every update."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        row = {k.removeprefix("train/"): v for k, v in self.logger.name_to_value.items() if k.startswith("train/")}
        if row:
            self.rows.append(row)
        return True


def _log_of(agent: Any, steps: int) -> list[dict[str, float]]:
    record = Record()
    agent.learn(steps, callback=record)
    assert len(record.rows) > 10
    return record.rows


def test_clamps_hold_during_training(build: Build) -> None:
    dual = Dual(target=-1.0, initial=0.5, learning_rate=0.1, minimum=0.4, maximum=0.6)
    alphas = [row["ent_coef"] for row in _log_of(build(SAC, ent_coef=dual), 80)]
    assert min(alphas) == pytest.approx(0.4, abs=1e-6)  # entropy is above -1 at first, so alpha falls to the clamp
    assert all(0.4 - 1e-6 <= alpha <= 0.6 + 1e-6 for alpha in alphas)
    low = Dual(target=0.69, initial=0.5, learning_rate=0.1, minimum=0.4, maximum=0.6)
    assert _log_of(build(SAC, ent_coef=low), 80)[-1]["ent_coef"] == pytest.approx(0.6, abs=1e-6)


def test_alpha_keeps_its_own_learning_rate_and_auto_follows_the_agent(build: Build) -> None:
    def schedule(left: float) -> float:
        return 1e-3 * left

    own = build(SAC, learning_rate=schedule, ent_coef=Dual(target=-1.0, learning_rate=0.05)).learn(60)
    assert own.ent_coef_optimizer.param_groups[0]["lr"] == 0.05
    auto = build(SAC, learning_rate=schedule).learn(60)
    rate = auto.actor.optimizer.param_groups[0]["lr"]
    assert auto.ent_coef_optimizer.param_groups[0]["lr"] == rate < 1e-3
    assert own.actor.optimizer.param_groups[0]["lr"] == rate


def test_a_scheduled_target_is_followed(build: Build) -> None:
    schedule = LinearSchedule(0.0, -2.0, steps=40)
    for settings in ({"ent_coef": Dual(schedule)}, {"target_entropy": schedule}):
        targets = [row["target_entropy"] for row in _log_of(build(SAC, **settings), 80)]
        expected = [schedule(step) for step in range(len(targets))]
        assert targets == pytest.approx(expected)
        assert targets[0] == 0.0
        assert targets[-1] == -2.0


def test_a_scheduled_coefficient_is_followed(build: Build) -> None:
    rows = _log_of(build(SAC, ent_coef=Scheduled(LinearSchedule(1.0, 0.0, steps=40))), 80)
    assert [row["ent_coef"] for row in rows] == pytest.approx([max(1 - n / 40, 0.0) for n in range(len(rows))])


def _batch(agent: Any, discounts: bool) -> ReplayBufferSamples:
    generator = np.random.default_rng(3)
    size = 12

    def draw(*shape: int) -> torch.Tensor:
        return torch.as_tensor(generator.uniform(-1.0, 1.0, shape), dtype=torch.float32)

    return ReplayBufferSamples(
        observations=draw(size, 3),
        actions=draw(size, 1),
        next_observations=draw(size, 3),
        dones=torch.as_tensor(generator.integers(0, 2, (size, 1)), dtype=torch.float32),
        rewards=draw(size, 1),
        discounts=torch.as_tensor(generator.choice([0.9, 0.81, 0.729], (size, 1))).float() if discounts else None,
    )


COEFFICIENTS: dict[str, Callable[[], Any]] = {
    "fixed": lambda: Fixed(0.3),
    "dual": lambda: Dual(target=-1.0, initial=0.3, learning_rate=0.5),
    "per state": lambda: PerStateDual(nn.Linear(3, 1), target=-1.0, learning_rate=0.5),
    "from observation": lambda: FromObservation(1),
}


@pytest.mark.parametrize("kind", COEFFICIENTS)
@pytest.mark.parametrize("entropy_backup", [True, False])
@pytest.mark.parametrize("discounts", [True, False], ids=["n-step", "gamma"])
def test_losses_by_hand(
    kind: str, entropy_backup: bool, discounts: bool, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = build(SAC, ent_coef=COEFFICIENTS[kind](), entropy_backup=entropy_backup, gamma=0.95).learn(30)
    batch = _batch(agent, discounts)
    before = copy.deepcopy(agent)  # networks and alpha as they are read in the update
    monkeypatch.setattr(agent.replay_buffer, "sample", lambda *_, **__: batch)
    seen: dict[str, Any] = {}

    def critic_loss(q_values: Any, target: Any) -> Any:
        seen["target"] = target
        return original(q_values, target)

    original = losses.critic_loss
    monkeypatch.setattr(losses, "critic_loss", critic_loss)
    torch.manual_seed(5)
    agent.train(1, 12)

    torch.manual_seed(5)
    with torch.no_grad():
        actions, log_probs = before.actor.action_log_prob(batch.observations)
        next_actions, next_log_probs = before.actor.action_log_prob(batch.next_observations)
        next_q = before.critic_target(batch.next_observations, next_actions)
        taken = before.critic(batch.observations, batch.actions)
        q_pi = agent.critic(batch.observations, actions)  # the actor sees critics that have taken their step

    def alpha(observations: torch.Tensor, row: int) -> float:
        if kind == "per state":
            return math.exp(float(before.controller.log_alpha(observations[row : row + 1]).detach()))
        if kind == "from observation":
            return float(observations[row, 1])
        return 0.3 if kind == "fixed" else float(before.controller.value)

    target, critic, actor = [], 0.0, 0.0
    for row in range(12):
        value = min(float(q[row]) for q in next_q)
        if entropy_backup:
            value -= alpha(batch.next_observations, row) * float(next_log_probs[row])
        discount = float(batch.discounts[row]) if discounts else 0.95
        target.append(float(batch.rewards[row]) + (1.0 - float(batch.dones[row])) * discount * value)
        critic += 0.5 * sum((float(q[row]) - target[-1]) ** 2 for q in taken) / 12
        actor += (alpha(batch.observations, row) * float(log_probs[row]) - min(float(q[row]) for q in q_pi)) / 12
    np.testing.assert_allclose(seen["target"].flatten().numpy(), target, rtol=1e-5, atol=1e-6)
    log = agent.logger.name_to_value
    assert log["train/critic_loss"] == pytest.approx(critic, rel=1e-4)
    assert log["train/actor_loss"] == pytest.approx(actor, rel=1e-4, abs=1e-5)
    assert log["train/entropy"] == pytest.approx(-float(log_probs.mean()), rel=1e-5)
    mean_alpha = np.mean([alpha(batch.observations, row) for row in range(12)])
    assert log["train/ent_coef"] == pytest.approx(mean_alpha, rel=1e-5)


def test_n_step_discounts_come_from_the_buffer(build: Build) -> None:
    agent = build(SAC, n_steps=3, gamma=0.9, env="Pendulum-v1").learn(60)
    discounts = agent.replay_buffer.sample(64).discounts
    # Pendulum never terminates, so all are gamma^3 but those that meet the end of the data.
    assert float(discounts.median()) == pytest.approx(0.9**3)


def test_per_state_alpha_differs_between_states(build: Build) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
    alpha = PerStateDual(module, target=-1.0, learning_rate=0.01, minimum=0.01, maximum=2.0)
    before = copy.deepcopy(module)
    agent = build(SAC, ent_coef=alpha)
    rows = _log_of(agent, 80)
    observations = agent.replay_buffer.sample(64).observations
    values = alpha.values(observations)
    assert float(values.max() - values.min()) > 0.01
    assert float(values.min()) >= 0.01 - 1e-6
    assert float(values.max()) <= 2.0 + 1e-6
    assert not torch.equal(before[0].weight, module[0].weight)
    assert agent.ent_coef == pytest.approx(agent.logger.name_to_value["train/ent_coef"])
    assert {"ent_coef", "ent_coef_loss", "target_entropy"} <= set(rows[-1])


BOUND = (
    r"target entropy must be below 0\.6931 nats, the largest entropy any policy has here, got .*: alpha would grow"
)


@pytest.mark.parametrize(
    "settings",
    [
        lambda: {"target_entropy": math.log(2.0)},
        lambda: {"target_entropy": 5.0},
        lambda: {"target_entropy": lambda _: 1.0},
        lambda: {"ent_coef": Dual(target=math.log(2.0))},
        lambda: {"ent_coef": PerStateDual(nn.Linear(3, 1), target=0.7)},
    ],
)
def test_an_unreachable_target_is_refused(settings: Any, build: Build) -> None:
    with pytest.raises(ValueError, match=BOUND):
        build(SAC, **settings())


def test_a_target_just_below_the_bound_is_taken(build: Build) -> None:
    assert build(SAC, target_entropy=0.693).target_entropy == 0.693


def test_the_bound_grows_with_the_dimensions(build: Build) -> None:
    env = gym.make("InvertedPendulum-v5")
    two = gym.wrappers.TransformAction(env, lambda a: a[:1], gym.spaces.Box(-3.0, 3.0, (2,), np.float32))
    assert build(SAC, env=two).target_entropy == -2.0
    with pytest.raises(ValueError, match=r"below 1\.3863 nats"):
        build(SAC, env=two, target_entropy=1.4)
    assert build(SAC, env=two, target_entropy=1.3).target_entropy == 1.3
    two.close()


def test_a_schedule_that_ends_unreachable_is_refused_at_once(build: Build) -> None:
    with pytest.raises(ValueError, match=BOUND):
        build(SAC, ent_coef=Dual(LinearSchedule(0.0, 1.0, steps=20)))


def test_a_schedule_of_code_that_becomes_unreachable_stops_there(build: Build) -> None:
    agent = build(SAC, ent_coef=Dual(lambda step: step / 20))
    with pytest.raises(ValueError, match=BOUND):
        agent.learn(80)
    assert agent.controller.problem.step == 14  # 14/20 = 0.7 is the first above log 2


KEYS = {
    "actor_loss",
    "critic_loss",
    "ent_coef",
    "ent_coef_loss",
    "entropy",
    "entropy_bound",
    "learning_rate",
    "n_updates",
    "target_entropy",
}


def test_the_log_and_its_event_files(build: Build, tmp_path: Any) -> None:
    agent = build(SAC, env=gym.make("Pendulum-v1", max_episode_steps=20), tensorboard_log=str(tmp_path))
    rows = _log_of(agent.set_env(agent.get_env()) or agent, 90)
    assert set(rows[-1]) == KEYS
    assert rows[-1]["n_updates"] == len(rows) == agent._n_updates - 1  # the callback runs before the last update
    events = EventAccumulator(str(tmp_path / "SAC_1")).Reload()
    written = {tag.removeprefix("train/") for tag in events.Tags()["scalars"] if tag.startswith("train/")}
    assert written == KEYS - {"n_updates"}
    assert [event.step for event in events.Scalars("train/entropy")] == [80]
    assert events.Scalars("train/ent_coef")[0].value == pytest.approx(rows[58]["ent_coef"])


def test_a_constant_has_no_loss_and_no_target_in_the_log(build: Build) -> None:
    assert set(_log_of(build(SAC, ent_coef=0.2), 50)[-1]) == KEYS - {"ent_coef_loss", "target_entropy"}


def test_entropy_estimates_stay_below_the_bound_on_average(build: Build) -> None:
    for settings in ({}, {"use_sde": True}):
        rows = _log_of(build(SAC, batch_size=64, **settings), 120)
        assert np.mean([row["entropy"] for row in rows]) <= np.mean([row["entropy_bound"] for row in rows])
        assert max(row["entropy_bound"] for row in rows) <= math.log(2.0) + 1e-6


@pytest.mark.parametrize("gradient_steps", [1, 3])
def test_a_reward_that_is_nan_stops_the_training(gradient_steps: int, build: Build, nan_reward: Any) -> None:
    agent = build(SAC, env=nan_reward(gym.make("Pendulum-v1"), after=30), gradient_steps=gradient_steps)
    with pytest.raises(FloatingPointError, match="reward of environment 0 became nan at environment step 31"):
        agent.learn(200)
    assert agent.num_timesteps == 31  # 30 steps are whole


def test_another_value_error_in_an_update_is_not_renamed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = build(SAC)

    def fail(*_: Any) -> Any:
        raise ValueError("something else")

    monkeypatch.setattr(losses, "critic_loss", fail)
    with pytest.raises(ValueError, match="something else"):
        agent.learn(60)


def test_no_gradient_steps_are_no_update(build: Build, tensors: Any) -> None:
    agent = build(SAC).learn(30)
    before, done = tensors(agent), agent._n_updates
    agent.train(0, 16)
    assert agent._n_updates == done
    assert all(torch.equal(value, before[name]) for name, value in tensors(agent).items())


WORDS = 'ent_coef must be "auto", "auto_<initial alpha above 0>", a number or a controller'


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"ent_coef": "automatic"}, ValueError, f"{WORDS}, got 'automatic'"),
        ({"ent_coef": "auto_0"}, ValueError, f"{WORDS}, got 'auto_0'"),
        ({"ent_coef": "auto_-1"}, ValueError, f"{WORDS}, got 'auto_-1'"),
        ({"ent_coef": "auto_x"}, ValueError, f"{WORDS}, got 'auto_x'"),
        ({"ent_coef": "auto_nan"}, ValueError, f"{WORDS}, got 'auto_nan'"),
        ({"ent_coef": "learned"}, ValueError, f"{WORDS}, got 'learned'"),
        ({"ent_coef": -0.1}, ValueError, "ent_coef must be finite and at least 0, got -0.1"),
        ({"ent_coef": math.nan}, ValueError, "ent_coef must be finite and at least 0, got nan"),
        ({"ent_coef": math.inf}, ValueError, "ent_coef must be finite and at least 0, got inf"),
        ({"ent_coef": None}, TypeError, "a number or a controller such as Dual(...), got NoneType"),
        ({"ent_coef": {}}, TypeError, "a number or a controller such as Dual(...), got dict"),
        (
            {"target_entropy": "large"},
            ValueError,
            "target_entropy must be \"auto\", a number or a schedule, got 'large'",
        ),
        ({"target_entropy": None}, TypeError, 'target_entropy must be "auto", a number or a schedule, got None'),
        ({"target_entropy": math.nan}, ValueError, "target entropy must be finite, got nan"),
        ({"target_entropy": lambda _: "low"}, TypeError, "target entropy must be a number, got str"),
        (
            {"ent_coef": Dual(-1.0), "target_entropy": -1.0},
            ValueError,
            "target_entropy must stay 'auto' when ent_coef is a Dual, which has its own target, got -1.0",
        ),
    ],
)
def test_wrong_arguments(settings: Any, error: type[Exception], text: str, build: Build) -> None:
    with pytest.raises(error) as raised:
        build(SAC, **settings)
    assert text in str(raised.value)


def test_numbers_of_every_kind(build: Build) -> None:
    assert build(SAC, target_entropy=-np.prod((2,))).target_entropy == -2.0
    assert build(SAC, target_entropy=np.float32(-0.5)).target_entropy == -0.5
    assert build(SAC, target_entropy="-0.5").target_entropy == -0.5  # Stable-Baselines3 calls float() on it
    for value in (0.25, "0.25", np.float32(0.25), torch.tensor(0.25)):
        assert build(SAC, ent_coef=value).ent_coef == 0.25
    assert build(SAC, ent_coef=0).ent_coef == 0.0


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [*COEFFICIENTS, "auto"])
def test_training_and_loading_on_a_gpu(kind: str, build: Build, tmp_path: Any) -> None:
    ent_coef = COEFFICIENTS[kind]() if kind in COEFFICIENTS else kind
    if isinstance(ent_coef, PerStateDual):
        ent_coef = PerStateDual(ent_coef.log_alpha, target=-1.0)  # the rate of the others lets alpha run away
    agent = build(SAC, ent_coef=ent_coef, device="cuda").learn(40)
    assert agent._n_updates == 20
    if kind in ("auto", "dual"):
        agent.save(tmp_path / "agent")
        for device in ("cpu", "cuda"):
            loaded = SAC.load(tmp_path / "agent", env=gym.make("Pendulum-v1"), device=device).learn(30)
            assert loaded.log_ent_coef.device.type == device
            assert loaded.ent_coef_optimizer.param_groups[0]["params"][0] is loaded.log_ent_coef


def test_a_fixed_coefficient_reads_as_it_was_given(build: Build) -> None:
    agent = build(SAC, ent_coef=0.2).learn(40)
    assert agent.ent_coef == 0.2
