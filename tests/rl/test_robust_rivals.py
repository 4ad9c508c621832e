"""What QARL is compared with: Langevin dynamics, attacks on actions, the worst parameters of a set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from entroreg.agents import SAC
from entroreg.agents.adversarial import (
    PlayerSettings,
    WorstParameterSAC,
    attacked_sac,
    mixed_nash,
    worst_parameter_sac,
)
from entroreg.agents.adversarial.action_attack import AttackedActions, GrowingAttack, attack_action
from entroreg.agents.adversarial.langevin import LangevinRMSprop
from entroreg.agents.adversarial.worst_parameters import plain_sac
from entroreg.envs import find_set, make_task

TASK = "InvertedPendulum-v5"
SMALL = PlayerSettings(
    net=(16,),
    learning_starts=40,
    batch_size=16,
    learning_rate=1e-3,
    buffer_size=2_000,
    device="cpu",
    engine="eager",
)


# Langevin dynamics.


def test_without_noise_it_is_rmsprop() -> None:
    weights = [torch.randn(4, 3).requires_grad_() for _ in range(2)]
    with torch.no_grad():
        weights[1].copy_(weights[0])
    mine = LangevinRMSprop([weights[0]], lr=0.01, noise=0.0, eps=1e-8)
    theirs = torch.optim.RMSprop([weights[1]], lr=0.01, alpha=0.99, eps=1e-8)
    for _ in range(20):
        for weight, optimizer in zip(weights, (mine, theirs), strict=True):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(*weights)


def test_the_noise_has_the_width_of_the_preconditioner() -> None:
    torch.manual_seed(0)
    weight = torch.zeros(200_000).requires_grad_()
    optimizer = LangevinRMSprop([weight], lr=0.02, noise=0.5, decay=0.0)
    weight.grad = torch.full_like(weight, 4.0)
    optimizer.step()
    moved = weight.detach()
    assert moved.mean().item() == pytest.approx(-0.02, abs=1e-3)  # - lr g / |g|
    assert moved.std().item() == pytest.approx(0.5 * (2 * 0.02) ** 0.5 / 4.0**0.5, rel=0.01)


def test_bad_arguments_of_the_optimiser() -> None:
    weight = torch.zeros(1).requires_grad_()
    for arguments, name in (({"lr": 0.0}, "lr"), ({"noise": -1.0}, "noise"), ({"decay": 1.0}, "decay")):
        with pytest.raises(ValueError, match=f"{name} must be"):
            LangevinRMSprop([weight], **{"lr": 0.1, **arguments})
    with pytest.raises(ValueError, match="langevin_noise must be"):
        PlayerSettings(langevin_noise=-0.1)


def test_mixed_nash_is_a_zip_for_stable_baselines3(tmp_path: Path) -> None:
    agent = mixed_nash(TASK, SMALL).learn(200)
    assert isinstance(agent.protagonist.actor.optimizer, LangevinRMSprop)
    agent.plain_protagonist().save(tmp_path / "protagonist.zip")
    stock = stable_baselines3.SAC.load(tmp_path / "protagonist.zip", env=make_task(TASK), device="cpu")
    observation = np.random.default_rng(0).normal(size=4)
    np.testing.assert_allclose(stock.predict(observation, deterministic=True)[0], agent.predict(observation)[0])
    stock.learn(150)  # with an optimiser of its own


# Attacks on actions.


class _Quadratic(torch.nn.Module):
    """Q = -|a - centre|^2, twice."""

    def __init__(self, centre: list[float]) -> None:
        super().__init__()
        self.centre = torch.tensor(centre)

    def forward(self, _observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        value = -((actions - self.centre) ** 2).sum(dim=1, keepdim=True)
        return value, value + 1.0


def _attacked_by(centre: list[float], task: str = "Hopper-v5") -> SAC:
    agent = SAC("MlpPolicy", make_task(task), device="cpu", policy_kwargs={"net_arch": [4]})
    agent.critic = _Quadratic(centre)  # type: ignore[assignment]
    return agent


@settings(max_examples=30, deadline=None)
@example(action=[0.0, 0.0, 0.0], direction=[0.0, 0.0, 0.0], budget=1e-280)  # 0 in single precision
@given(
    action=st.lists(st.floats(-0.9, 0.9), min_size=3, max_size=3),
    direction=st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3),
    budget=st.floats(0.0, 2.0),
)
def test_an_attack_keeps_its_budget_and_never_helps(
    action: list[float], direction: list[float], budget: float
) -> None:
    agent = _attacked_by(direction)
    start = np.array(action, dtype=np.float32)
    found = attack_action(agent, np.zeros(11), start, budget)
    assert np.linalg.norm(found - start) <= budget + 1e-5
    assert np.abs(found).max() <= 1.0 + 1e-6
    value = [float(agent.critic(torch.zeros(1, 11), torch.tensor(a)[None])[0]) for a in (start, found)]
    assert value[1] <= value[0] + 1e-5


def test_an_attack_goes_straight_away_from_the_best_action() -> None:
    found = attack_action(_attacked_by([0.0, 0.0, 0.0]), np.zeros(11), np.array([0.3, 0.0, 0.0], np.float32), 0.5)
    np.testing.assert_allclose(found, [0.8, 0.0, 0.0], atol=1e-6)


def test_an_attack_is_in_the_units_of_the_environment() -> None:
    agent = _attacked_by([0.0], TASK)  # actions from -3 to 3
    found = attack_action(agent, np.zeros(4), np.array([0.6], np.float32), 0.5)
    np.testing.assert_allclose(found, [0.6 + 0.5 * 3.0], atol=1e-6)


def test_the_budget_grows_over_the_middle_of_the_training() -> None:
    agent = _attacked_by([0.0, 0.0, 0.0])
    attack = GrowingAttack(agent, total_timesteps=1_000, budget=0.4)
    budgets = []
    for step in (0, 200, 500, 800, 1_000):
        agent.num_timesteps = step
        budgets.append(round(attack.budget(), 6))
    assert budgets == [0.0, 0.0, 0.2, 0.4, 0.4]


def test_an_attacked_agent_remembers_what_it_chose() -> None:
    agent = attacked_sac(TASK, 200, SMALL, budget=0.5, seed=0)
    done: list[float] = []
    chosen: list[float] = []
    env: Any = agent.get_env().envs[0]  # type: ignore[union-attr]
    while not isinstance(env, AttackedActions):
        env = env.env
    attack = env.attack

    def kept(observation: Any, action: Any) -> Any:
        chosen.append(float(action[0]))
        done.append(float(attack(observation, action)[0]))
        return np.array(done[-1:], dtype=np.float32)

    env.attack = kept
    agent.learn(200)
    remembered = agent.replay_buffer.actions[: len(chosen), 0, 0] * 3.0  # type: ignore[union-attr]
    np.testing.assert_allclose(remembered, chosen, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(done[:41], chosen[:41], err_msg="the first fifth is undisturbed")
    assert np.abs(np.subtract(done, chosen)).max() > 0.5


def test_bad_arguments_of_the_attack() -> None:
    with pytest.raises(ValueError, match="budget must be"):
        attacked_sac(TASK, 200, SMALL, budget=0.0)
    with pytest.raises(ValueError, match="total_timesteps must be"):
        attacked_sac(TASK, 0, SMALL)


# Worst parameters.


@pytest.fixture(scope="module")
def worst() -> WorstParameterSAC:
    return worst_parameter_sac(TASK, find_set(TASK, "rrls-2"), SMALL, seed=0).learn(300)


def test_the_critic_sees_the_parameters_and_the_actor_does_not(worst: WorstParameterSAC) -> None:
    observations = torch.randn(5, 6)
    others = torch.cat([observations[:, :4], torch.rand(5, 2)], dim=1)
    assert torch.equal(worst.actor(observations, deterministic=True), worst.actor(others, deterministic=True))
    actions = torch.zeros(5, 1)
    assert not torch.equal(worst.critic(observations, actions)[0], worst.critic(others, actions)[0])


def test_values_at_candidates_are_the_critics(worst: WorstParameterSAC) -> None:
    observations, actions = torch.randn(5, 6), torch.rand(5, 1)
    candidates = torch.rand(3, 2)
    found = worst._values_at(candidates, observations, actions)
    for candidate, values in zip(candidates, found, strict=True):
        placed = torch.cat([observations[:, :4], candidate.expand(5, 2)], dim=1)
        expected = torch.cat(worst.critic(placed, actions), dim=1).min(dim=1, keepdim=True).values
        torch.testing.assert_close(values, expected)


def test_the_worst_candidate_goes_down_the_critics_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = worst_parameter_sac(TASK, find_set(TASK, "rrls-2"), SMALL, seed=0).learn(60)
    lowest = torch.tensor([0.5, -0.5])

    def distances(candidates: Tensor, observations: Tensor, actions: Tensor) -> Tensor:
        away = ((candidates - lowest) ** 2).sum(dim=1)[:, None, None].expand(-1, len(observations), 1)
        return away + 0.0 * actions

    monkeypatch.setattr(agent, "_values_at", distances)
    before = agent.candidates.copy()
    nearest = int(np.linalg.norm(before - lowest.numpy(), axis=1).argmin())
    agent._update(agent.replay_buffer.sample(16))  # type: ignore[union-attr]
    expected = before.copy()
    way = lowest.numpy() - before[nearest]
    expected[nearest] += 1e-3 * way / np.linalg.norm(way)
    np.testing.assert_allclose(agent.candidates, expected, rtol=1e-6)
    agent.candidates[nearest] = [1.0, -1.0]
    agent._move(nearest, np.array([-1.0, 0.0]))
    assert agent.candidates[nearest].tolist() == [1.0, -1.0], "it stays in the set"


def test_episodes_have_the_candidates_parameters() -> None:
    agent = worst_parameter_sac(TASK, find_set(TASK, "rrls-2"), SMALL, seed=0)
    rng = np.random.default_rng(0)
    agent.num_timesteps = 10
    early = np.array([agent.choose_parameters(rng) for _ in range(400)])
    assert np.abs(early.mean(axis=0)).max() < 0.15, "uniform in the warm-up"
    assert early.std(axis=0) == pytest.approx([3**-0.5] * 2, rel=0.1)
    agent.num_timesteps, agent.candidate_noise = 1_000, 0.0
    late = {tuple(agent.choose_parameters(rng).astype(np.float32)) for _ in range(200)}
    assert late == {tuple(candidate) for candidate in agent.candidates}


def test_the_physics_are_those_that_are_observed() -> None:
    agent = worst_parameter_sac(TASK, find_set(TASK, "rrls-2"), SMALL, seed=0)
    env: Any = agent.get_env().envs[0]  # type: ignore[union-attr]
    observation, _ = env.reset(seed=0)
    model = env.unwrapped.model
    pole, cart = observation[-2:]
    assert model.body("pole").mass[0] == pytest.approx(16.0 + 15.0 * pole, rel=1e-6)
    assert model.body("cart").mass[0] == pytest.approx(6.0 + 5.0 * cart, rel=1e-6)


def test_a_worst_parameter_agent_is_a_zip(worst: WorstParameterSAC, tmp_path: Path) -> None:
    plain = plain_sac(worst, TASK, SMALL)
    plain.save(tmp_path / "plain.zip")
    stock = stable_baselines3.SAC.load(tmp_path / "plain.zip", device="cpu")
    observation = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    longer = np.concatenate([observation, np.ones((3, 2), np.float32)], axis=1)
    expected = worst.predict(longer, deterministic=True)[0]
    np.testing.assert_allclose(stock.predict(observation, deterministic=True)[0], expected, rtol=1e-6)
    worst.save(tmp_path / "whole.zip")
    again = WorstParameterSAC.load(tmp_path / "whole.zip", device="cpu")
    assert np.array_equal(again.candidates, worst.candidates)
    np.testing.assert_allclose(again.predict(longer, deterministic=True)[0], expected, rtol=1e-6)
