"""The engine's state is the agent's: what changes or copies the one is seen by the other."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor

from entroreg.agents import SAC

Edit = Callable[[Any], None]
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
ROUNDING = 1e-5  # measured 1e-6: float32, a few updates


def _assert_equal(pair: Any, bound: float = ROUNDING) -> None:
    found = pair.distances()
    assert {name: value for name, value in found.items() if not value <= bound} == {}


def _same(first: Any, second: Any, differences: Any) -> bool:
    return set(differences(first, second).values()) == {0.0}


def test_it_is_compiled_and_takes_the_updates(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("the eager update ran")

    monkeypatch.setattr(SAC, "_update", refuse)
    before = pair.engine._n_updates
    pair.engine.train(3, 32)
    assert pair.engine._n_updates == before + 3
    assert pair.engine.engine_status == f"compiled in {pair.engine.engine_compile_seconds:.1f} s"
    assert pair.engine.engine_compile_seconds > 0.5
    with pytest.raises(AssertionError, match="the eager update ran"):
        pair.eager.train(1, 32)


def test_steps_are_counted_as_torch_counts_them(pair: Any) -> None:
    pair.train(7)
    for agent in (pair.engine, pair.eager):
        assert agent._n_updates == agent.controller.problem.step == 57
        for optimizer in (agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer):
            steps = [entry["step"] for entry in optimizer.state.values()]
            assert len(steps) == len(optimizer.param_groups[0]["params"])
            assert all(torch.equal(step, torch.tensor(57.0)) for step in steps)


def test_state_dicts_and_parameters_show_the_updates(pair: Any) -> None:
    before = copy.deepcopy(pair.engine.get_parameters())
    weight = pair.engine.policy.state_dict()["actor.mu.weight"]  # as in torch, it refers to the live tensor
    pair.train(5)
    ours, theirs = pair.engine.get_parameters(), pair.eager.get_parameters()
    assert ours.keys() == theirs.keys() == before.keys()
    assert torch.equal(weight, ours["policy"]["actor.mu.weight"])
    for name, value in theirs["policy"].items():
        assert torch.allclose(ours["policy"][name], value, rtol=1e-4, atol=1e-6), name
        assert not torch.equal(ours["policy"][name], before["policy"][name]), name


def _scale_weights(agent: Any) -> None:
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.mul_(1.1)


def _replace_data(agent: Any) -> None:
    for parameter in agent.policy.parameters():
        parameter.data = parameter.data * 1.1


def _scaled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value * 1.1 for name, value in state.items()}


def _set_parameters(agent: Any) -> None:
    parameters = copy.deepcopy(agent.get_parameters())
    parameters["policy"] = _scaled(parameters["policy"])
    parameters["critic.optimizer"]["state"][0]["exp_avg"] += 1.0
    agent.set_parameters(parameters)


def _scale_moments(agent: Any) -> None:
    for entry in agent.critic.optimizer.state.values():
        entry["exp_avg"].mul_(3.0)
        entry["exp_avg_sq"].mul_(2.0)
        entry["step"].fill_(3.0)


def _replace_moments(agent: Any) -> None:
    for entry in agent.actor.optimizer.state.values():
        entry["exp_avg"] = entry["exp_avg"] * -2.0


def _replace_second_moments(agent: Any) -> None:
    for entry in agent.actor.optimizer.state.values():
        entry["exp_avg_sq"] = entry["exp_avg_sq"] * 9.0


def _replace_steps(agent: Any) -> None:
    for entry in agent.actor.optimizer.state.values():
        entry["step"] = torch.tensor(1.0)


def _forget_moments(agent: Any) -> None:
    agent.actor.optimizer.state.clear()
    agent.ent_coef_optimizer.state.clear()


def _load_optimizer(agent: Any) -> None:
    state = copy.deepcopy(agent.critic.optimizer.state_dict())
    for entry in state["state"].values():
        entry["exp_avg"] *= -1.0
        entry["step"] += 100.0
    agent.critic.optimizer.load_state_dict(state)


def _load_controller(agent: Any) -> None:
    state = agent.controller.state_dict()
    state["log_alpha"] += 1.0
    state["optimizer"]["state"][0]["exp_avg"] += 1.0
    agent.controller.load_state_dict(state)


def _set_log_alpha(agent: Any) -> None:
    agent.log_ent_coef.data = torch.tensor([-2.0])


def _mix_targets(agent: Any) -> None:
    agent.critic_target.load_state_dict(_scaled(agent.critic.state_dict()))


def _there_and_back(agent: Any) -> None:
    agent.policy.double()
    agent.policy.to(torch.float32)
    _scale_weights(agent)


EDITS: dict[str, Edit] = {
    "policy.load_state_dict": lambda agent: agent.policy.load_state_dict(_scaled(agent.policy.state_dict())),
    "set_parameters": _set_parameters,
    "weights in place": _scale_weights,
    "weights' data replaced": _replace_data,
    "float64 and back": _there_and_back,
    "moments in place": _scale_moments,
    "first moments replaced": _replace_moments,
    "second moments replaced": _replace_second_moments,
    "step counts replaced": _replace_steps,
    "moments forgotten": _forget_moments,
    "optimizer.load_state_dict": _load_optimizer,
    "controller.load_state_dict": _load_controller,
    "log alpha's data replaced": _set_log_alpha,
    "critic_target.load_state_dict": _mix_targets,
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_next_update_sees(edit: str, pair: Any, apart: Any) -> None:
    pair.train(3)
    unedited = copy.deepcopy(pair.eager)
    seconds = pair.engine.engine_compile_seconds
    for agent in (pair.engine, pair.eager):
        EDITS[edit](agent)
    pair.train(5, seed=1)
    _assert_equal(pair)
    pair.train_one(unedited, 5, seed=1)
    assert max(apart(unedited, pair.eager).values()) > 1e-3  # the edit matters
    assert pair.engine.engine_compile_seconds == seconds


def test_targets_whose_parameters_were_replaced_move(twins: Any) -> None:
    pair = twins()
    pair.train(1)
    for agent in (pair.engine, pair.eager):
        state = {name: value.clone() for name, value in agent.critic.state_dict().items()}
        agent.critic_target.load_state_dict(state, assign=True)
    pair.train(5)
    _assert_equal(pair)


class _ScaleOnce(BaseCallback):
    def _on_step(self) -> bool:
        if self.n_calls == 4:
            _scale_weights(self.model)
        return True


def test_a_callback_that_edits_weights_is_seen(pair: Any) -> None:
    for agent in (pair.engine, pair.eager):
        agent.replay_buffer = copy.deepcopy(agent.replay_buffer)
        agent.learning_starts = 0
        agent.env.seed(5)
        torch.manual_seed(5)
        np.random.seed(5)
        agent.learn(8, callback=_ScaleOnce())
        agent.learning_starts = 100_000
    assert pair.engine._n_updates == pair.eager._n_updates == 58
    _assert_equal(pair, 1e-4)  # actions differ by rounding as well


def _zip(agent: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    agent.save(buffer)
    buffer.seek(0)
    return buffer


def _go_on(agent: Any, buffer: Any, updates: int = 10) -> Any:
    agent.set_logger(stable_baselines3.common.logger.configure(None, []))
    agent.replay_buffer = buffer
    torch.manual_seed(8)
    np.random.seed(8)
    agent.train(updates, 32)
    return agent


def test_a_loaded_agent_goes_on_as_the_original(pair: Any, differences: Any, two_actions_env: Any) -> None:
    pair.train(5)
    archive = _zip(pair.engine)
    loaded = SAC.load(archive, env=two_actions_env())
    archive.seek(0)
    theirs = stable_baselines3.SAC.load(archive, env=two_actions_env())
    assert _same(loaded, pair.engine, differences)
    assert loaded.engine == "compiled"
    observations = pair.engine.replay_buffer.observations[:6, 0]
    expected = pair.engine.predict(observations, deterministic=True)[0]
    for agent in (loaded, theirs):
        np.testing.assert_array_equal(agent.predict(observations, deterministic=True)[0], expected)

    original = _go_on(pair.engine, pair.engine.replay_buffer)
    _go_on(loaded, pair.engine.replay_buffer)
    assert loaded.engine_status.startswith("compiled in ")
    assert _same(loaded, original, differences)
    _go_on(theirs, pair.engine.replay_buffer)  # Stable-Baselines3 goes on from the engine's moments
    found = differences(theirs, original)
    assert max(found.values()) < 1e-3
    assert found["actor.0.step"] == found["critic.0.step"] == found["alpha.0.step"] == 0.0
    assert found["policy.actor.mu.weight"] < 1e-6


def test_load_again_replaces_what_the_engine_reads(pair: Any, differences: Any) -> None:
    pair.train(5)
    archive, log_alpha = _zip(pair.engine), pair.engine.log_ent_coef.detach().clone()
    first = copy.deepcopy(_go_on(pair.engine, pair.engine.replay_buffer).get_parameters())
    archive.seek(0)
    pair.engine.set_parameters(archive)  # of a zip, Stable-Baselines3 takes all but alpha
    pair.engine.log_ent_coef.data.copy_(log_alpha)
    second = _go_on(pair.engine, pair.engine.replay_buffer).get_parameters()
    for name, value in first["policy"].items():
        assert torch.equal(value, second["policy"][name]), name
    for name in ("actor.optimizer", "critic.optimizer", "ent_coef_optimizer"):
        for index, entry in first[name]["state"].items():
            assert all(torch.equal(value, second[name]["state"][index][key]) for key, value in entry.items())


def test_an_eager_agent_goes_on_from_the_engines_moments_and_back(pair: Any) -> None:
    pair.train(20)
    pair.copy(pair.engine, pair.eager)
    pair.train(20, seed=1)
    _assert_equal(pair)
    pair.copy(pair.eager, pair.engine)
    pair.train(20, seed=2)
    _assert_equal(pair)


def test_a_deep_copy_learns_by_itself(pair: Any, differences: Any) -> None:
    pair.train(5)
    twin = copy.deepcopy(pair.engine)
    before = copy.deepcopy(twin)
    _go_on(twin, pair.engine.replay_buffer)
    assert _same(pair.engine, before, differences)
    assert not _same(twin, before, differences)
    assert twin._n_updates == pair.engine._n_updates + 10
    _go_on(pair.engine, pair.engine.replay_buffer)
    assert _same(twin, pair.engine, differences)


class _Widening(FlattenExtractor):
    """Features in float64 once it is told so."""

    wide = False

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations.double() if self.wide else observations)


def _widen(agent: Any) -> None:
    agent.policy.double()
    agent.log_ent_coef.data = agent.log_ent_coef.data.double()
    for network in (agent.actor, agent.critic, agent.critic_target):
        network.features_extractor.wide = True


def _widen_moments(agent: Any) -> None:
    for optimizer in (agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer):
        optimizer.load_state_dict(optimizer.state_dict())  # casts them to their parameters' dtype


def test_a_policy_that_became_float64_goes_on_in_float64(twins: Any) -> None:
    pair = twins(lambda: {"policy_kwargs": {"features_extractor_class": _Widening}})
    pair.train(3)
    for agent in (pair.engine, pair.eager):
        _widen(agent)
        _widen_moments(agent)
    pair.copy(pair.eager, pair.engine)
    pair.train(20)
    assert pair.engine.actor.mu.weight.dtype == torch.float64
    _assert_equal(pair, 1e-12)


@pytest.mark.slow
def test_moments_that_became_float64_later_are_read_as_such(twins: Any) -> None:
    pair = twins(lambda: {"policy_kwargs": {"features_extractor_class": _Widening}})
    pair.train(3)
    kept = copy.deepcopy(pair.eager)
    for agent in (pair.engine, pair.eager):
        _widen(agent)
    with pytest.raises(RuntimeError, match="dtype"):
        pair.eager.train(1, 32)  # torch's Adam refuses float32 moments of float64 parameters
    with pytest.raises(RuntimeError, match=r"moments must have the dtype .* torch\.float64, got torch\.float32"):
        pair.engine.train(1, 32)
    for agent in (pair.engine, pair.eager):
        pair.copy(kept, agent)
        _widen_moments(agent)
    pair.train(20)
    _assert_equal(pair, 1e-12)
