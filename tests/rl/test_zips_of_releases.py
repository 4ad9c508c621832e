"""Zips and replay buffers that five releases of Stable-Baselines3 wrote: they load, act as saved, and train on."""

from __future__ import annotations

import importlib.util
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.her import HerReplayBuffer

from entroreg.agents import SAC

FOLDER = Path(__file__).parent / "data" / "zips"
RELEASES = ("1.8.0", "2.0.0", "2.3.2", "2.6.0", "2.9.2")
VECTORIZED = ("2.3", "2.6", "2.9")  # in these, the noise of several environments is one object
CODE_RATE = r"a learning rate that is code, .* pass load\(\.\.\., learning_rate=3e-4\)"
_unpickled: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def _watch_unpickling() -> None:
    """Note every class or function that any unpickler of Python looks up from now on."""
    sys.addaudithook(
        lambda event, arguments: _unpickled.append(str(arguments)) if event == "pickle.find_class" else None
    )


@pytest.fixture(scope="module")
def made() -> Any:
    """The script that made the zips, for its environments."""
    spec = importlib.util.spec_from_file_location("made_zips", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    with tarfile.open(FOLDER / f"{request.param}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def _largest_difference(agent: Any, saved: dict[str, Any]) -> float:
    differences = []
    for observation, action in zip(saved["observations"], saved["actions"], strict=True):
        parts = {name: np.float32(part) for name, part in observation.items()}
        found = agent.predict(parts.get("", parts), deterministic=True)[0]
        differences.append(np.abs(found - np.float32(action)).max())
    return float(max(differences))


def test_each_acts_as_saved_and_no_pickle_of_its_is_loaded(release: Path, made: Any) -> None:
    table = json.loads((release / "expected.json").read_text())
    assert len(table) == 8
    for name, saved in table.items():
        env = made.Point(goal=True) if name == "her" else None  # Stable-Baselines3 makes HER's buffer with it
        _unpickled.clear()
        agent = SAC.load(release / name, env=env, device="cpu")
        assert _unpickled == []
        # The same float32 operations; another BLAS may order sums of 8 in another way.
        assert _largest_difference(agent, saved) < 1e-6, name


@pytest.mark.filterwarnings("ignore:numpy.core.numeric is deprecated:DeprecationWarning")
def test_their_own_load_does_unpickle(release: Path) -> None:
    if release.name.startswith("1.8"):
        pytest.skip("its spaces need gym")
    _unpickled.clear()
    stable_baselines3.SAC.load(release / "default", device="cpu")
    assert len(_unpickled) > 10


def test_each_trains_on(release: Path, made: Any) -> None:
    few = ("default", "her", "lambda")  # of the releases between the oldest and the newest
    for name, (_, env, _) in made.cases().items():
        if name not in few and release.name.startswith(("2.0", "2.3", "2.6")):
            continue
        own_rate = name == "lambda" or (name == "schedule" and not release.name.startswith("2.9"))
        agent = SAC.load(release / name, env=env, device="cpu")
        if own_rate:
            with pytest.raises(RuntimeError, match=CODE_RATE):
                agent.learn(10, reset_num_timesteps=False)
            with pytest.raises(RuntimeError, match=CODE_RATE):
                agent.train(1)
            agent = SAC.load(release / name, env=env, device="cpu", learning_rate=1e-3)
        if name in ("default", "her"):
            agent.load_replay_buffer(release / name, truncate_last_traj=False)
        before = agent._n_updates
        agent.learn(50, reset_num_timesteps=False)
        assert agent._n_updates >= before + (5 if name == "noise" else 40), name


def test_what_is_kept(release: Path, made: Any) -> None:
    noise = SAC.load(release / "noise")
    assert isinstance(noise.action_noise, NormalActionNoise)
    np.testing.assert_array_equal(noise.action_noise._sigma, [0.1])
    assert (noise.ent_coef, noise.train_freq.frequency, noise.train_freq.unit.value) == (0.2, 1, "episode")
    two = SAC.load(release / "two")
    if release.name.startswith(VECTORIZED):
        assert isinstance(two.action_noise, VectorizedActionNoise)
        assert [each._sigma.tolist() for each in two.action_noise.noises] == [[0.1], [0.1]]
    assert two.action_space.low == -2.0
    kwargs = SAC.load(release / "kwargs")
    assert kwargs.policy_kwargs["net_arch"] == {"pi": [8, 8], "qf": [8]}
    assert type(kwargs.actor.optimizer).__name__ == "AdamW"
    assert kwargs.actor.optimizer.param_groups[0]["weight_decay"] == 1e-3
    assert SAC.load(release / "sde").use_sde
    schedule = SAC.load(release / "schedule")
    assert isinstance(schedule.learning_rate, LinearSchedule) == release.name.startswith("2.9")


@pytest.mark.filterwarnings("ignore:numpy.core.numeric is deprecated:DeprecationWarning")
def test_the_random_generator_of_the_action_space_is_kept(release: Path) -> None:
    agents = [SAC.load(release / "default") for _ in range(2)]
    samples = [agent.action_space.sample() for agent in agents]
    if release.name.startswith("1.8"):  # gym's generator is of another kind
        assert agents[0].seed == 0
    else:
        expected = stable_baselines3.SAC.load(release / "default").action_space.sample()
        assert samples == [expected, expected]


def test_their_replay_buffers(release: Path, made: Any) -> None:
    agent = SAC.load(release / "default", env=made.Point())
    _unpickled.clear()
    agent.load_replay_buffer(release / "default")
    assert _unpickled == []
    assert (agent.replay_buffer.pos, agent.replay_buffer.buffer_size, agent.replay_buffer.full) == (24, 32, False)
    assert agent.replay_buffer.rewards[:24].sum() == pytest.approx(-15.0, abs=0.2)
    her = SAC.load(release / "her", env=made.Point(goal=True))
    her.load_replay_buffer(release / "her", truncate_last_traj=False)
    assert isinstance(her.replay_buffer, HerReplayBuffer)
    assert (her.replay_buffer.n_sampled_goal, her.replay_buffer.goal_selection_strategy.name) == (2, "FINAL")
    assert her.replay_buffer.ep_length[:, 0].tolist() == [7] * 21 + [0] * 11


def test_a_replay_buffer_trusted_is_the_same_as_one_read(release: Path, made: Any) -> None:
    if not release.name.startswith("2.9"):
        pytest.skip("pickles of the release that is installed")
    buffers = []
    for trust in (False, True):
        agent = SAC.load(release / "her", env=made.Point(goal=True))
        agent.load_replay_buffer(release / "her", truncate_last_traj=False, trust=trust)
        buffers.append(agent.replay_buffer)
    read, trusted = ({k: v for k, v in b.__dict__.items() if k != "env"} for b in buffers)
    assert set(read) == set(trusted)
    for name, value in trusted.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(read[name], value)
        elif name != "observations" and name != "next_observations":
            assert read[name] == value, name
    for name, part in trusted["observations"].items():
        np.testing.assert_array_equal(read["observations"][name], part)
