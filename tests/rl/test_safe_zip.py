"""What a zip without trust gives: refusals by name, the caller's objects, learning rates, spaces, buffers."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule
from torch import nn

from entroreg.agents import SAC, DiscreteSAC, UnsafeZipError
from entroreg.agents.packed_replay import PackedReplayBuffer
from entroreg.agents.safe_zip.attributes import ALLOWED, MAKERS
from entroreg.agents.safe_zip.objects import CLASSES
from entroreg.agents.safe_zip.pickles import read_pickle
from entroreg.agents.safe_zip.refusals import refused_in
from entroreg.agents.safe_zip.values import Builder

Build = Callable[..., Any]
OBSERVATION = np.array([0.6, 0.8, 0.1], dtype=np.float32)
NO_RATE = (
    r"a learning rate that is code, .* so it can only predict: to train, pass load\(\.\.\., learning_rate=3e-4\)"
)


class Doubling(FlattenExtractor):
    """A feature extractor of the user's own."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(observations)


class Sine(nn.Module):
    """An activation of the user's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sin()


class Silence(ActionNoise):
    """Action noise of the user's own."""

    def __call__(self) -> np.ndarray:
        return np.zeros(1)


def _zip(agent: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    agent.save(buffer)
    return buffer


def _round_trip(value: Any, protocol: int = 4) -> Any:
    """What comes back of a value that was pickled and read without trust."""
    node, steps = read_pickle(pickle.dumps(value, protocol), 100_000)
    assert refused_in(node, ALLOWED) == []
    return Builder(MAKERS, CLASSES, steps, 100_000).build(node)


def test_all_refused_names_are_listed_and_mended(build: Build) -> None:
    custom = {"features_extractor_class": Doubling, "activation_fn": Sine, "net_arch": [8]}
    saved = build(SAC, policy_kwargs=custom, action_noise=Silence())
    file = _zip(saved)
    with pytest.raises(UnsafeZipError) as caught:
        SAC.load(file)
    assert set(caught.value.refused) == {
        f"policy_kwargs: {__name__}.Doubling",
        f"policy_kwargs: {__name__}.Sine",
        f"action_noise: {__name__}.Silence",
    }
    advice = 'load(..., custom_objects={"action_noise": ..., "policy_kwargs": ...}), or load with trust=True'
    assert advice in str(caught.value)
    assert isinstance(caught.value, ValueError)

    mended = SAC.load(file, custom_objects={"policy_kwargs": dict(custom), "action_noise": None})
    trusted = SAC.load(file, trust=True)
    expected = saved.predict(OBSERVATION, deterministic=True)[0]
    for loaded in (mended, trusted):
        np.testing.assert_array_equal(loaded.predict(OBSERVATION, deterministic=True)[0], expected)
    assert (mended.action_noise, type(trusted.action_noise)) == (None, Silence)


def test_a_class_whose_code_is_in_the_file(build: Build) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Own:\n    def __call__(self): return 0\nfunction = lambda: Own()", namespace)
    agent = build(SAC)
    agent.mine, agent.yours = namespace["Own"], namespace["function"]
    with pytest.raises(UnsafeZipError, match="mine: a class in the file, 'Own'; yours: a function in the file"):
        SAC.load(_zip(agent))
    loaded = SAC.load(_zip(agent), custom_objects={"mine": 1, "yours": 2, "absent": 3})
    assert (loaded.mine, loaded.yours, hasattr(loaded, "absent")) == (1, 2, False)


def test_attributes_of_a_subclass_are_kept(build: Build) -> None:
    agent = build(SAC)
    agent.note, agent.table, agent.recent = "x", {"a": [1, 2.5]}, deque([np.float32(0.5)], maxlen=3)
    loaded = SAC.load(_zip(agent))
    assert (loaded.note, loaded.table, loaded.recent) == ("x", {"a": [1, 2.5]}, deque([0.5], maxlen=3))
    assert loaded.recent.maxlen == 3


class Frozen(Doubling):
    """A feature extractor with much memory that is not saved."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.register_buffer("table", torch.zeros(3_000_000), persistent=False)


def test_a_network_of_the_callers_may_be_larger_than_its_weights(build: Build) -> None:
    custom = {"features_extractor_class": Frozen, "net_arch": [8]}
    file = _zip(build(SAC, policy_kwargs=custom))
    assert (
        SAC.load(file, custom_objects={"policy_kwargs": custom}).actor.features_extractor.table.numel() == 3_000_000
    )


def test_custom_objects_must_be_a_dict(build: Build) -> None:
    with pytest.raises(ValueError, match="custom_objects must be a dict or None, got list"):
        SAC.load(_zip(build(SAC)), custom_objects=[])


def test_a_buffer_class_of_the_callers(build: Build) -> None:
    class Own(ReplayBuffer):
        """Another one."""

    file = _zip(build(SAC, replay_buffer_class=Own))
    with pytest.raises(UnsafeZipError, match="replay_buffer_class: a class in the file, 'Own'"):
        SAC.load(file)
    assert type(SAC.load(file, custom_objects={"replay_buffer_class": Own}).replay_buffer) is Own


@pytest.mark.parametrize("cls", [SAC, DiscreteSAC])
def test_a_learning_rate_that_is_code(cls: Any, build: Build, tmp_path: Path) -> None:
    task = {SAC: "Pendulum-v1", DiscreteSAC: "CartPole-v1"}[cls]
    agent = build(cls, task, learning_rate=lambda left: 1e-4 + 1e-3 * left).learn(40)
    rate = agent.actor.optimizer.param_groups[0]["lr"]
    file = _zip(agent)
    for source in (file, _zip(cls.load(file))):  # saved again by one that does not know it either
        loaded = cls.load(source, env=gym.make(task))
        observation = loaded.observation_space.sample()
        assert (
            loaded.predict(observation, deterministic=True)[0] == agent.predict(observation, deterministic=True)[0]
        )
        with pytest.raises(RuntimeError, match=NO_RATE):
            loaded.learn(10)
        with pytest.raises(RuntimeError, match=NO_RATE):
            loaded.train(1)
    given = cls.load(file, env=gym.make(task), learning_rate=5e-4).learn(30, reset_num_timesteps=False)
    assert given.actor.optimizer.param_groups[0]["lr"] == 5e-4
    trusted = cls.load(_zip(cls.load(file)), env=gym.make(task), trust=True, learning_rate=5e-4)
    assert trusted.learn(30, reset_num_timesteps=False).actor.optimizer.param_groups[0]["lr"] == 5e-4
    mended = cls.load(file, env=gym.make(task), custom_objects={"learning_rate": lambda left: 0.25}).learn(30)
    assert mended.actor.optimizer.param_groups[0]["lr"] == 0.25
    again = cls.load(_zip(given), env=gym.make(task)).learn(30)
    assert again.actor.optimizer.param_groups[0]["lr"] == 5e-4
    assert cls.load(file, trust=True).lr_schedule(0.5) == pytest.approx(6e-4)
    if cls is SAC:
        theirs = stable_baselines3.SAC.load(_zip(cls.load(file)))
        assert theirs.lr_schedule(0.5) == rate > 0.0


@pytest.mark.parametrize("schedule", [LinearSchedule(1e-3, 1e-4, 0.5), ConstantSchedule(2e-3)])
def test_their_schedules_are_read(schedule: Any, build: Build) -> None:
    loaded = SAC.load(_zip(build(SAC, learning_rate=schedule)))
    assert type(loaded.learning_rate) is type(schedule)
    assert loaded.lr_schedule(0.7) == schedule(0.7)
    loaded.require_learning_rate()


SPACES = [
    spaces.Box(np.float32([-1, -np.inf, 0]), np.float32([1, np.inf, np.inf])),
    spaces.Box(-2, 3, (2, 1), np.int8),
    spaces.Box(0, 255, (3, 4, 1), np.uint8),
    spaces.Box(-1.0, 1.0, (2,), np.float64),
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 3]], start=[[1, -1]]),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Dict({"c": spaces.Box(0.0, 1.0, (1,))})}),
]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces(space: Any, protocol: int) -> None:
    space.seed(3)
    found = _round_trip(space, protocol)
    assert found == space
    if isinstance(space, spaces.Box):
        np.testing.assert_array_equal(found.bounded_below, space.bounded_below)
        np.testing.assert_array_equal(found.bounded_above, space.bounded_above)
    if not isinstance(space, spaces.Dict):  # its parts have the generators
        np.testing.assert_array_equal(found.sample(), space.sample())


def test_a_space_of_an_older_gym() -> None:
    space = spaces.Box(-1.0, 1.0, (2,))
    for name, new in (("_shape", "shape"), ("_np_random", "np_random")):
        space.__dict__[new] = np.random.RandomState(0) if new == "np_random" else space.__dict__[name]
        del space.__dict__[name]
    old = pickle.dumps(space, 4).replace(b"\x14gymnasium.spaces.box", b"\x0egym.spaces.box")
    old = old.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
    old = old[:2] + old[11:]  # without the frame, whose length has changed
    node, steps = read_pickle(old, 100_000)
    assert refused_in(node, ALLOWED) == []
    assert Builder(MAKERS, CLASSES, steps, 100_000).build(node) == spaces.Box(-1.0, 1.0, (2,))


def test_a_learning_rate_of_numpy_in_an_optimiser(build: Build) -> None:
    agent = build(SAC).learn(30)
    agent.actor.optimizer.param_groups[0]["lr"] = np.float64(2e-3)
    loaded = SAC.load(_zip(agent))
    rate = loaded.actor.optimizer.param_groups[0]["lr"]
    assert (type(rate), rate) == (float, 2e-3)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_and_scalars(protocol: int) -> None:
    for array in (
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::2],
        np.array(2.5),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.arange(3, dtype=">f4"),
    ):
        found = _round_trip(array, protocol)
        np.testing.assert_array_equal(found, array)
        assert (found.dtype, found.shape, found.flags.writeable) == (array.dtype, array.shape, True)
    for scalar in (np.float32(0.1), np.int64(-5), np.bool_(True)):
        found = _round_trip(scalar, protocol)
        assert (type(found), found) == (type(scalar), scalar)


def test_noise_is_where_it_was() -> None:
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(2), np.ones(2), theta=0.3, dt=0.5, initial_noise=np.full(2, 0.1))
    noise()
    found = _round_trip(noise)
    assert vars(found).keys() == vars(noise).keys()
    for name, value in vars(noise).items():
        np.testing.assert_array_equal(vars(found)[name], value)
    normal = _round_trip(NormalActionNoise(np.zeros(1), np.ones(1), dtype=np.float64))
    assert (normal._sigma, normal._dtype) == (1.0, np.float64)


def test_other_policies_and_tasks(build: Build) -> None:
    image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    both = spaces.Dict({"image": image, "vector": spaces.Box(-1.0, 1.0, (2,))})
    action = spaces.Box(-1.0, 1.0, (2,))
    small = {"net_arch": [4], "features_extractor_kwargs": {"features_dim": 4}}
    parts = {"net_arch": [4], "features_extractor_kwargs": {"cnn_output_dim": 4}}
    for policy, space, kwargs in (("CnnPolicy", image, small), ("MultiInputPolicy", both, parts)):
        env = gym.Env()
        env.observation_space, env.action_space = space, action
        agent = SAC(policy, env, policy_kwargs=kwargs, buffer_size=10, device="cpu")
        loaded = SAC.load(_zip(agent), device="cpu")
        observation = space.sample()
        np.testing.assert_array_equal(
            loaded.predict(observation, deterministic=True)[0], agent.predict(observation, deterministic=True)[0]
        )


def test_loading_draws_no_random_number(build: Build) -> None:
    file = _zip(build(SAC, seed=None))
    theirs = _zip(build(stable_baselines3.SAC, seed=None))
    states = []
    for load in (SAC.load, stable_baselines3.SAC.load):
        torch.manual_seed(0)
        load(theirs if load is not SAC.load else file, device="cpu")
        states.append(torch.rand(1).item())
    assert states[0] == states[1]


def test_a_zip_packed_again_with_compression_loads(build: Build, tmp_path: Path) -> None:
    agent, packed = build(SAC).learn(30), tmp_path / "agent.zip"
    with zipfile.ZipFile(_zip(agent)) as file, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        other.mkdir("entroreg")
        for name in file.namelist():
            other.writestr(name, file.read(name))
    loaded = SAC.load(packed)
    assert loaded.predict(OBSERVATION, deterministic=True)[0] == agent.predict(OBSERVATION, deterministic=True)[0]


def test_parameters_from_a_file(build: Build, differences: Any) -> None:
    agent, other = build(SAC).learn(40), build(SAC, seed=1)
    other.set_parameters(_zip(agent))
    observation = OBSERVATION
    assert other.predict(observation, deterministic=True)[0] == agent.predict(observation, deterministic=True)[0]
    wide = build(SAC, policy_kwargs={"net_arch": [17]})
    with pytest.raises(UnsafeZipError, match="the weights of policy are not those of the agent's network: actor"):
        wide.set_parameters(_zip(agent))
    fixed = build(SAC, ent_coef=0.1)
    with pytest.raises(UnsafeZipError, match=r"the zip has parameters of .*'ent_coef_optimizer'.*, the agent of"):
        fixed.set_parameters(_zip(agent))
    with pytest.raises(UnsafeZipError, match=r"the zip has parameters of .*, the agent of .*'ent_coef_optimizer'"):
        other.set_parameters(_zip(fixed))
    other.set_parameters(_zip(fixed), exact_match=False)
    assert other.predict(observation, deterministic=True)[0] == fixed.predict(observation, deterministic=True)[0]
    with pytest.raises(FileNotFoundError):
        other.set_parameters("no such file")


def _saved_buffer(agent: Any, protocol: int = 4) -> io.BytesIO:
    return io.BytesIO(pickle.dumps(agent.replay_buffer, protocol))


@pytest.mark.filterwarnings("ignore:`n_steps=3` is ignored")  # as in their own load
@pytest.mark.parametrize(
    "settings", [{}, {"engine": "eager"}, {"n_steps": 3}, {"replay_buffer_class": ReplayBuffer}]
)
def test_replay_buffers_come_back(settings: dict[str, Any], build: Build, tmp_path: Path) -> None:
    agent = build(SAC, buffer_size=50, **settings).learn(60)
    agent.save_replay_buffer(tmp_path / "buffer")
    other = SAC.load(_zip(agent))
    other.load_replay_buffer(tmp_path / "buffer")
    kept, found = agent.replay_buffer, other.replay_buffer
    assert isinstance(found, NStepReplayBuffer) == ("n_steps" in settings)
    assert type(found) is type(kept)
    assert (found.pos, found.full, found.buffer_size, found.device) == (10, True, 50, torch.device("cpu"))
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(kept, name))
    if isinstance(found, PackedReplayBuffer):
        assert np.shares_memory(found.rows.numpy(), found.observations)
        assert (found.added, found.columns) == (60, kept.columns)
    other.set_env(gym.make("Pendulum-v1"))
    other.learn(10, reset_num_timesteps=False)
    assert other.replay_buffer is found
    assert found.pos == 20


class _Touching:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_replay_buffers_that_attack(build: Build, tmp_path: Path) -> None:
    agent = build(SAC, buffer_size=50)
    canary = tmp_path / "canary"
    agent.replay_buffer.full = _Touching(canary)
    file = _saved_buffer(agent)
    with pytest.raises(UnsafeZipError, match=r"holds classes .*pathlib\.Path\.touch.* trust=True") as caught:
        agent.load_replay_buffer(file)
    assert "Path.touch" in caught.value.refused[0]
    assert not canary.exists()
    agent.load_replay_buffer(io.BytesIO(file.getvalue()), trust=True)
    assert canary.exists()


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("pos", 50, "a position within the buffer"),
        ("pos", -1, "a position within the buffer"),
        ("pos", "x", "expected int"),
        ("buffer_size", 60, "its table does not fit"),
        ("n_envs", 2, "its table does not fit"),
        ("n_envs", 0, "a position within"),
        ("table", np.zeros((50, 1, 3), np.float32), "its table does not fit"),
        ("table", np.zeros((50, 1, 10), np.int64), "its table does not fit"),
        ("full", 1, "its full does not fit"),
        ("added", -1, "its added does not fit"),
        ("optimize_memory_usage", True, "impossible settings"),
        ("handle_timeout_termination", None, "expected bool"),
        ("sample", 1, "of another version"),
    ],
)
def test_replay_buffers_that_do_not_fit(
    name: str, value: Any, match: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = build(SAC, buffer_size=50)
    state = {**agent.replay_buffer.__getstate__(), name: value}
    monkeypatch.setattr(PackedReplayBuffer, "__getstate__", lambda self: state)
    content = pickle.dumps(agent.replay_buffer, 4)
    monkeypatch.undo()
    with pytest.raises(UnsafeZipError, match=match):
        agent.load_replay_buffer(io.BytesIO(content))


def test_a_replay_buffer_of_another_task(build: Build, tmp_path: Path) -> None:
    agent, other = build(SAC, buffer_size=50), build(DiscreteSAC, "CartPole-v1", buffer_size=50)
    with pytest.raises(UnsafeZipError, match="a packed buffer for vectors"):
        other.load_replay_buffer(_saved_buffer(agent))
    with pytest.raises(UnsafeZipError, match="a pickle in the file is damaged"):
        agent.load_replay_buffer(io.BytesIO(b""))
    with pytest.raises(UnsafeZipError, match="expected Made"):
        agent.load_replay_buffer(io.BytesIO(pickle.dumps([1], 4)))
    with pytest.raises(FileNotFoundError):
        agent.load_replay_buffer(tmp_path / "none")


def test_a_buffer_size_beyond_all_memory(build: Build) -> None:
    env = gym.Env()
    env.observation_space, env.action_space = spaces.Box(-1.0, 1.0, (300_000,)), spaces.Box(-1.0, 1.0, (2,))
    agent = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [1], "n_critics": 1}, buffer_size=1, device="cpu")
    file = _zip(agent)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(members["data"]) | {"buffer_size": 10**8}
    assert base64.b64decode(data["observation_space"][":serialized:"])
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, raw in {**members, "data": json.dumps(data).encode()}.items():
            archive.writestr(name, raw)
    with pytest.raises(UnsafeZipError, match=r"does not fit in memory: pass load\(\.\.\., buffer_size=n\)"):
        SAC.load(changed)
    assert SAC.load(changed, buffer_size=2).replay_buffer.buffer_size == 2
