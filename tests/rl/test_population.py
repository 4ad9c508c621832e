"""A population's members against the same agents alone, and what may happen to their tensors."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from entroreg import Dual, Fixed, Scheduled
from entroreg.agents import SAC, SACPopulation
from entroreg.agents.agent_checkpoint import load_agent
from entroreg.agents.training_checkpoint import TrainingCheckpoint

SMALL: dict[str, Any] = {
    "policy_kwargs": {"net_arch": [32, 32]},
    "batch_size": 32,
    "buffer_size": 1000,
    "learning_starts": 50,
    "device": "cpu",
}
Settings = dict[str, Any]


def population(seeds: Any = (0, 1), env: Any = "Pendulum-v1", **settings: Any) -> SACPopulation:
    return SACPopulation("MlpPolicy", env, seeds, **{**SMALL, "engine": "eager", **settings})


def alone(seed: int, **settings: Any) -> SAC:
    return SAC("MlpPolicy", "Pendulum-v1", seed=seed, **{**SMALL, **settings})


Distance = Callable[[SAC, SAC], float]


@pytest.fixture
def distance(tensors: Callable[[Any], dict[str, Tensor]]) -> Distance:
    """The relative difference of all that two agents have learned, the largest over kinds of tensors."""

    def measure(ours: SAC, theirs: SAC) -> float:
        first, second = tensors(ours), tensors(theirs)
        assert first.keys() == second.keys()
        kinds = {name.split(".")[0] + name.split(".")[-1] for name in first}
        found = []
        for kind in kinds:
            names = [name for name in first if name.split(".")[0] + name.split(".")[-1] == kind]
            a, b = (torch.cat([agent[name].double().flatten() for name in names]) for agent in (first, second))
            found.append(float((a - b).norm() / b.norm().clamp_min(1e-12)))
        return max(found)

    return measure


def logged(agent: SAC) -> dict[str, float]:
    return {name: value for name, value in agent.logger.name_to_value.items() if name.startswith("train/")}


CASES: dict[str, Callable[[], Settings]] = {
    "auto": dict,
    "auto_0.1": lambda: {"ent_coef": "auto_0.1"},
    "dual": lambda: {"ent_coef": Dual(-1.0, loss="alpha", initial=0.5, maximum=0.501, learning_rate=1e-2)},
    "number": lambda: {"ent_coef": 0.2},
    "several updates": lambda: {"train_freq": 2, "gradient_steps": 2, "target_update_interval": 2},
    "n-step returns": lambda: {"n_steps": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_members_are_the_agents_alone(case: str, distance: Distance) -> None:
    ours = population(**CASES[case]()).learn(70)
    for seed, member in enumerate(ours.members):
        theirs = alone(seed, **CASES[case]()).learn(70)
        assert member._n_updates == theirs._n_updates == 20
        assert distance(member, theirs) <= 1e-5
        assert logged(member) == pytest.approx(logged(theirs), rel=1e-4, abs=1e-6)
        assert member.controller.state_dict().keys() == theirs.controller.state_dict().keys()


class DoubleExtractor(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).double()


def in_double(agent: SAC) -> SAC:
    agent.policy.double()
    agent.log_ent_coef.data = agent.log_ent_coef.data.double()
    return agent


def test_in_double_precision_two_hundred_updates_differ_by_rounding(distance: Distance) -> None:
    settings = {"policy_kwargs": {"net_arch": [32, 32], "features_extractor_class": DoubleExtractor}}
    ours = population(**settings)
    for member in ours.members:
        in_double(member)
    ours.learn(250)
    for seed, member in enumerate(ours.members):
        found = distance(member, in_double(alone(seed, **settings)).learn(250))
        print(f"seed {seed}: relative difference after 200 updates in float64 {found:.1e}")
        assert found <= 1e-12


def slightly_moved(agent: SAC) -> SAC:
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter *= 1 + 1e-6  # about ten units in the last place
    return agent


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own
def test_compiled(distance: Distance) -> None:
    ours = population(range(3), engine="compiled").learn(70)
    for seed, member in enumerate(ours.members):
        theirs = alone(seed).learn(70)
        found = distance(member, theirs)
        print(f"seed {seed}: relative difference after 20 updates, compiled, {found:.1e}")
        assert found <= 1e-5
        # Of every member: torch's vectorised loops on a CPU once gave all members the numbers of the last.
        assert logged(member) == pytest.approx(logged(theirs), rel=1e-4, abs=1e-6)
    ours.learn(180, reset_num_timesteps=False)
    for seed, member in enumerate(ours.members):
        theirs = alone(seed).learn(250)
        found, sensitivity = distance(member, theirs), distance(slightly_moved(alone(seed)).learn(250), theirs)
        print(f"seed {seed}: after 200 updates {found:.1e}; of an agent moved by 1e-6 {sensitivity:.1e}")
        assert found <= sensitivity


def test_lists_of_hyper_parameters(distance: Distance) -> None:
    lists: dict[str, list[float]] = {
        "learning_rate": [1e-3, 1e-4],
        "gamma": [0.9, 0.99],
        "tau": [0.1, 0.005],
        "target_entropy": [-0.5, -2.0],
    }
    ours = population([3, 3], **lists).learn(70)
    for index, member in enumerate(ours.members):
        theirs = alone(3, **{name: values[index] for name, values in lists.items()}).learn(70)
        assert distance(member, theirs) <= 1e-5
    assert distance(*ours.members) > 1e-3


def test_members_do_not_touch_each_other_nor_the_global_generators(
    tensors: Callable[[Any], dict[str, Tensor]],
) -> None:
    first = population([0, 1]).learn(100).members[0]
    torch.manual_seed(7)
    np.random.seed(7)
    second = population([0, 2])
    second.learn(100, lambda _: bool(np.random.rand() + torch.rand(1)))
    drawn = (float(torch.rand(1)), np.random.rand())
    theirs = tensors(second.members[0])
    assert all(torch.equal(value, theirs[name]) for name, value in tensors(first).items())
    torch.manual_seed(7)
    np.random.seed(7)
    assert drawn == (float(torch.rand(1)), np.random.rand())


def test_every_member_gets_its_own_controller() -> None:
    shared = population(ent_coef=Dual(-1.0))
    made = population(ent_coef=lambda: Dual(-1.0, initial=0.3))
    for built in (shared, made):
        first, second = (member.controller for member in built.learn(60).members)
        assert first is not second
        assert first.log_alpha.data_ptr() != second.log_alpha.data_ptr()
        assert first.problem.step == second.problem.step == 10
    assert made.members[0].controller.value < 0.31


def test_export(tmp_path: Path, distance: Distance) -> None:
    ours = population([0, 5, 9]).learn(70)
    ours.save(tmp_path)
    alone(0).learn(70).save(tmp_path / "alone.zip")
    observation = np.array([0.5, 0.5, 1.0], dtype=np.float32)
    for seed, member in zip(ours.seeds, ours.members, strict=True):
        path = tmp_path / f"seed-{seed}.zip"
        expected = member.predict(observation, deterministic=True)[0]
        for cls in (SAC, stable_baselines3.SAC):
            assert np.array_equal(cls.load(path).predict(observation, deterministic=True)[0], expected)
        assert distance(SAC.load(path), member) == 0.0
        # A view is saved with its whole storage: that of all members.
        assert path.stat().st_size < 1.05 * (tmp_path / "alone.zip").stat().st_size
        TrainingCheckpoint(member, tmp_path / "checkpoint").save()
        loaded = alone(1)
        load_agent(loaded, tmp_path / "checkpoint")
        assert distance(loaded, member) == 0.0
    with pytest.raises(ValueError, match="seeds must differ to be names of files"):
        population([1, 1]).save(tmp_path)


def _load_policy(agent: SAC) -> None:
    agent.policy.load_state_dict(agent.policy.state_dict())


def _replace_data(agent: SAC) -> None:
    for parameter in agent.policy.parameters():
        parameter.data = parameter.data.clone()


def _load_optimizers(agent: SAC) -> None:
    for optimizer in (agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def _set_parameters(agent: SAC) -> None:
    agent.set_parameters(agent.get_parameters())


def _cast(agent: SAC) -> None:
    agent.policy.double().float()


@pytest.mark.parametrize("disturb", [_load_policy, _replace_data, _load_optimizers, _set_parameters, _cast])
def test_broken_views_are_linked_again(disturb: Callable[[SAC], None], distance: Distance) -> None:
    ours, undisturbed = (population().learn(60) for _ in range(2))
    disturb(ours.members[1])
    for each in (ours, undisturbed):
        each.learn(20, reset_num_timesteps=False)
    for member, other in zip(ours.members, undisturbed.members, strict=True):
        assert distance(member, other) == 0.0
    first, second = (member.actor.mu.weight for member in ours.members)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def test_what_is_written_into_a_member_is_trained_on() -> None:
    ours = population().learn(60)
    for parameter in ours.members[1].actor.parameters():
        parameter.data = torch.zeros_like(parameter)
    kept = copy.deepcopy(ours.members[0])
    ours.learn(2, reset_num_timesteps=False)
    assert max(float(p.detach().abs().max()) for p in ours.members[1].actor.parameters()) < 2.1 * 3e-4
    assert float(ours.members[0].actor.mu.weight.detach().abs().max()) > 1e-2
    assert not torch.equal(kept.actor.mu.weight, ours.members[0].actor.mu.weight)  # the copy has its own tensors


def _pendulum_then_car() -> Callable[[], gym.Env]:
    return functools.partial(next, iter([gym.make("Pendulum-v1"), gym.make("MountainCarContinuous-v0")]))


def _controllers(*controllers: Any) -> Callable[[], Any]:
    return functools.partial(next, iter(controllers))


class BatchNormExtractor(FlattenExtractor):
    def __init__(self, observation_space: gym.Space) -> None:
        super().__init__(observation_space)
        self.norm = nn.BatchNorm1d(3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": []}, "seeds must name at least one member"),
        ({"gamma": [0.9]}, "gamma must have one value for each of 2 seeds, got 1"),
        ({"engine": "fast"}, "engine"),
        ({"env": _pendulum_then_car()}, "members must agree in shapes"),
        ({"ent_coef": lambda: Scheduled(lambda step: 0.1)}, "its controller is Scheduled, not Dual or Fixed"),
        ({"ent_coef": _controllers(Dual(-1.0), Fixed(0.1))}, "members must agree in kind of controller"),
        ({"ent_coef": _controllers(Dual(-1.0), Dual(-1.0, loss="alpha"))}, "members must agree in kind of dual"),
        ({"use_sde": True}, "gSDE"),
        ({"policy_kwargs": {"features_extractor_class": BatchNormExtractor}}, "BatchNorm1d"),
        ({"train_freq": (1, "episode")}, "train_freq must count steps"),
    ],
)
def test_errors(settings: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        population(**settings)


def test_one_environment_cannot_be_shared() -> None:
    with pytest.raises(TypeError, match="makes one environment for each member"):
        population(env=gym.make("Pendulum-v1"))


def test_counts_that_were_made_to_differ_are_refused() -> None:
    ours = population()
    ours.members[1].batch_size = 16
    with pytest.raises(ValueError, match=r"agree in batch_size, got 32 in member 0 \(seed 0\) and 16 in member 1"):
        ours.learn(10)
    with pytest.raises(ValueError, match="member_callbacks must have one entry for each member, got 1"):
        ours.learn(10, member_callbacks=[None])


def test_nan_names_the_seed_and_the_quantity(nan_reward: type[gym.Wrapper]) -> None:
    envs = [gym.make("Pendulum-v1"), nan_reward(gym.make("Pendulum-v1"))]
    ours = population([3, 8], env=functools.partial(next, iter(envs)))
    with pytest.raises(FloatingPointError, match=r"member 1 \(seed 8\): reward of environment 0 became nan"):
        ours.learn(200)


def test_callbacks_end_training() -> None:
    steps: list[int] = []

    def until_thirty(trained: SACPopulation) -> bool:
        steps.append(trained.num_timesteps)
        return trained.num_timesteps < 30

    assert population().learn(100, until_thirty).num_timesteps == 30
    assert steps == list(range(1, 31))
    stopped = population().learn(900, member_callbacks=[None, StopTrainingOnMaxEpisodes(1)])
    assert [member.num_timesteps for member in stopped.members] == [200, 200]
    assert [member._episode_num for member in stopped.members] == [1, 0]
