"""Updates on a device table: on a CPU the arithmetic, without capture; on CUDA the graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor

from entroreg import Dual
from entroreg.agents import SAC
from entroreg.agents.engine.captured import CapturedUpdates, DeviceTable
from entroreg.agents.engine.engine import standing
from entroreg.agents.engine.sac_engine import SACEngine, numbers_of
from entroreg.agents.packed_replay import PackedReplayBuffer

BATCH = 16


def _buffer(size: int, envs: int) -> PackedReplayBuffer:
    box = spaces.Box(-1.0, 1.0, (2,), np.float64)
    return PackedReplayBuffer.like(ReplayBuffer(size * envs, box, box, device="cpu", n_envs=envs))


def _add(buffer: PackedReplayBuffer, count: int, rng: np.random.Generator) -> None:
    for _ in range(count):
        values = rng.uniform(-1.0, 1.0, (3, buffer.n_envs, 2))
        done = rng.integers(0, 2, buffer.n_envs)
        buffer.add(values[0], values[1], values[2], rng.normal(size=buffer.n_envs), done, [{}] * buffer.n_envs)


@pytest.mark.parametrize("envs", [1, 3])
def test_the_device_table_follows_the_buffer(envs: int) -> None:
    rng = np.random.default_rng(0)
    buffer = _buffer(7, envs)
    table = DeviceTable(buffer, torch.device("cpu"))
    assert table.refresh() == 0
    for count in (1, 0, 3, 2, 5, 7, 20, 6, 1):  # short of the end, on it, over it, and round more than once
        _add(buffer, count, rng)
        assert table.refresh() == buffer.size() * envs
        assert table.rows.data_ptr() != buffer.rows.data_ptr()
        assert torch.equal(table.rows, buffer.rows)


def _captured(agent: Any, updates: int) -> tuple[CapturedUpdates, Any]:
    engine = SACEngine()
    update, places = SACEngine.pure_update(agent)
    learned = isinstance(agent.controller, Dual)
    optimizers = [agent.actor.optimizer, agent.critic.optimizer, *([agent.ent_coef_optimizer] if learned else [])]
    players = [engine._state(optimizer) for optimizer in optimizers]
    alpha = None if learned else agent.controller.value
    table = DeviceTable(agent.replay_buffer, agent.device)
    return CapturedUpdates(update, players, standing(places), alpha, table, BATCH, updates), players


def _sampled_eagerly(agent: Any, taus: list[float]) -> None:
    """The same updates by the eager path, with the draws of the captured one in its order."""
    buffer = agent.replay_buffer
    assert buffer.n_envs == 1  # so an index is a row
    for tau in taus:
        indices = (torch.rand(BATCH, dtype=torch.float64) * buffer.size()).long()
        agent._update(buffer._get_samples(indices.numpy()))
        if tau:
            agent._update_targets()


@pytest.mark.parametrize("ent_coef", ["auto", 0.2])
def test_updates_on_the_table_equal_eager_ones(
    ent_coef: Any, build: Callable[..., Any], differences: Callable[..., Any]
) -> None:
    eager = build(SAC, ent_coef=ent_coef, batch_size=BATCH, target_update_interval=2).learn(60)
    agent = copy.deepcopy(eager)
    launched, players = _captured(agent, updates=4)
    taus = [0.005, 0.0, 0.005, 0.0]
    numbers = []
    for tau in taus:
        numbers.append(numbers_of(agent, players, tau))
        for player in players:
            player.count_step()
    torch.manual_seed(3)
    rows = launched.launch(numbers, agent.gamma)
    torch.manual_seed(3)
    _sampled_eagerly(eager, taus)
    found = differences(agent, eager)
    assert rows.shape[0] == 4
    assert torch.isfinite(rows).all()
    assert max(found.values()) < 1e-5, found


def test_a_graph_fits_until_the_tensors_are_others(build: Callable[..., Any]) -> None:
    agent = build(SAC).learn(30)
    launched, _ = _captured(agent, updates=1)
    assert launched.fits()
    agent.set_parameters(copy.deepcopy(agent.get_parameters()))  # in place, but for the optimiser's moments
    assert not launched.fits()
    launched, _ = _captured(agent, updates=1)
    agent.policy.load_state_dict(agent.policy.state_dict())
    assert launched.fits()
    agent.critic_target.qf0[0].weight.data = agent.critic_target.qf0[0].weight.data.clone()
    assert not launched.fits()


def _first_weight(agent: Any) -> Tensor:
    weight: Tensor = agent.critic.qf0[0].weight.detach().cpu()
    return weight


@pytest.mark.gpu
@pytest.mark.parametrize("gradient_steps", [1, 4])
def test_an_agent_learns_through_captured_graphs(gradient_steps: int) -> None:
    agent = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        engine="compiled",
        device="cuda",
        seed=0,
        gradient_steps=gradient_steps,
        train_freq=gradient_steps,
        learning_starts=100,
        policy_kwargs={"net_arch": [64, 64]},
    )
    before = _first_weight(agent).clone()
    agent.learn(500)
    assert agent._engine._captured, agent.engine_status
    assert agent._n_updates == 400
    assert not torch.equal(before, _first_weight(agent))
    assert float(agent.critic.optimizer.state_dict()["state"][0]["step"]) == 400.0


@pytest.mark.gpu
def test_a_captured_graph_follows_learning_rate_and_tau() -> None:
    agent = SAC("MlpPolicy", "Pendulum-v1", engine="compiled", device="cuda", seed=0, learning_starts=100)
    agent.learn(150)
    agent.learning_rate, agent.tau = 0.0, 0.0
    agent._setup_lr_schedule()
    before, target = _first_weight(agent).clone(), agent.critic_target.qf0[0].weight.detach().cpu().clone()
    agent.learn(50, reset_num_timesteps=False)
    assert torch.equal(before, _first_weight(agent))
    assert torch.equal(target, agent.critic_target.qf0[0].weight.detach().cpu())


@pytest.mark.gpu
def test_a_captured_agent_names_what_became_nan() -> None:
    agent = SAC("MlpPolicy", "Pendulum-v1", engine="compiled", device="cuda", seed=0, learning_starts=100)
    agent.learn(150)
    agent.replay_buffer.rewards[:] = np.nan
    agent._engine._tables.clear()
    agent._engine._captured.clear()
    with pytest.raises(FloatingPointError, match="critic_loss became nan at update"):
        agent.learn(200, reset_num_timesteps=False)


@pytest.mark.gpu
def test_the_host_actor_follows_the_device() -> None:
    agent = SAC("MlpPolicy", "Pendulum-v1", engine="compiled", device="cuda", seed=0, learning_starts=100)
    agent.learn(200)
    agent._mirror.push_now()
    torch.cuda.synchronize()
    for copy_, parameter in zip(agent._mirror._copies[0], agent._mirror._parameters, strict=True):
        assert torch.equal(copy_, parameter.detach().cpu())
