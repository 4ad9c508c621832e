"""Zips in both directions between entroreg.agents.SAC and stock Stable-Baselines3, and the controller in ours."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from entroreg import Dual, Fixed, FromObservation, PerStateDual, Scheduled
from entroreg.agents import SAC
from entroreg.schedules import CosineSchedule, LinearSchedule

Build = Callable[..., Any]
ONLY_PREDICTS = "a per-state alpha loads in stock Stable-Baselines3 for prediction only"

THEIR_MEMBERS = {
    "data",
    "pytorch_variables.pth",
    "policy.pth",
    "actor.optimizer.pth",
    "critic.optimizer.pth",
    "_stable_baselines3_version",
    "system_info.txt",
}
OUR_MEMBERS = {"entroreg/controller.json", "entroreg/controller.safetensors"}


def _per_state() -> PerStateDual:
    return PerStateDual(nn.Linear(3, 1), target=-1.0, learning_rate=0.01)


def _clamped() -> Dual:
    schedule = LinearSchedule(-0.5, -1.5, steps=100)
    return Dual(schedule, loss="alpha", initial=0.3, learning_rate=0.02, minimum=0.1, maximum=0.5)


KINDS: dict[str, Callable[[], Any]] = {
    "auto": lambda: "auto",
    "dual": _clamped,
    "fixed": lambda: Fixed(0.2),
    "scheduled": lambda: Scheduled(CosineSchedule(0.5, 0.1, steps=100)),
    "lambda": lambda: Dual(lambda step: -1.0 - 0.001 * step),
    "per state": _per_state,
    "from observation": lambda: FromObservation(0),
}
OBSERVATIONS = np.random.default_rng(0).uniform(-1.0, 1.0, (6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def zips(build: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """A trained agent of each kind, and its zip."""
    found = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=ONLY_PREDICTS)
        for kind, ent_coef in KINDS.items():
            agent = build(SAC, ent_coef=ent_coef()).learn(60)
            path = tmp_path_factory.mktemp("zips") / f"{kind.replace(' ', '_')}.zip"
            agent.save(path)
            found[kind] = agent, path
    return found


@pytest.fixture
def env() -> Iterator[gym.Env[Any, Any]]:
    env = gym.make("Pendulum-v1")
    yield env
    env.close()


def _actions(agent: Any) -> np.ndarray:
    return agent.predict(OBSERVATIONS, deterministic=True)[0]


def _continue(agent: Any, replay_buffer: io.BytesIO) -> Any:
    """Train 50 more steps from one seed and one replay buffer."""
    replay_buffer.seek(0)
    agent.load_replay_buffer(replay_buffer)
    set_random_seed(7)
    agent.set_env(gym.make("Pendulum-v1"))
    agent.get_env().seed(7)
    return agent.learn(50, reset_num_timesteps=False)


def _saved(agent: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    agent.save(buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("settings", [{}, {"ent_coef": 0.2}, {"use_sde": True}], ids=["auto", "fixed", "gSDE"])
def test_from_theirs_to_ours_and_back(settings: Any, build: Build, differences: Any, tmp_path: Path) -> None:
    original = build(stable_baselines3.SAC, **settings).learn(60)
    original.save(tmp_path / "theirs")
    replay_buffer = io.BytesIO()
    original.save_replay_buffer(replay_buffer)
    ours = SAC.load(tmp_path / "theirs", engine="eager")
    assert type(ours) is SAC
    ours.save(tmp_path / "ours")
    np.testing.assert_array_equal(_actions(ours), _actions(original))

    paths = tmp_path / "theirs", tmp_path / "ours"
    first, second = (stable_baselines3.SAC.load(path) for path in paths)
    assert set(differences(first, second).values()) == {0.0}
    np.testing.assert_array_equal(_actions(second), _actions(original))
    for agent in (first, second, ours):
        _continue(agent, replay_buffer)
        assert agent._n_updates == 90
    assert set(differences(first, second).values()) == {0.0}
    assert set(differences(first, ours).values()) == {0.0}
    assert max(differences(first, original).values()) > 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_ours_loads_in_stock(kind: str, zips: Any, tensors: Any) -> None:
    agent, path = zips[kind]
    stock = stable_baselines3.SAC.load(path)
    assert type(stock) is stable_baselines3.SAC
    np.testing.assert_array_equal(_actions(stock), _actions(agent))
    learned = kind in ("auto", "dual", "lambda")
    assert stock.ent_coef == ("auto" if learned else pytest.approx(float(tensors(agent)["ent_coef"])))
    assert tensors(stock)["ent_coef"] == tensors(agent)["ent_coef"]
    assert stock.target_entropy == pytest.approx({"dual": -0.9, "lambda": -1.04}.get(kind, -1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_the_zip(kind: str, zips: Any) -> None:
    with zipfile.ZipFile(zips[kind][1]) as file:
        names = file.namelist()
        data = file.read("data").decode()
        tensors_of_controller = file.read("entroreg/controller.safetensors")
        json.loads(file.read("entroreg/controller.json"))
    assert len(names) == len(set(names))
    learned = {"ent_coef_optimizer.pth"} if kind in ("auto", "dual", "lambda") else set()
    assert set(names) == THEIR_MEMBERS | OUR_MEMBERS | learned
    _assert_nothing_of_ours(data)
    assert set(json.loads(data)) >= {"ent_coef", "target_entropy", "entropy_backup"}
    assert b"pickle" not in tensors_of_controller


def _assert_nothing_of_ours(data: str) -> None:
    assert "entroreg" not in data
    pickles = [value[":serialized:"] for value in json.loads(data).values() if _is_pickled(value)]
    assert len(pickles) > 3
    assert not any(b"entroreg" in base64.b64decode(text) for text in pickles)


def _is_pickled(value: Any) -> bool:
    return isinstance(value, dict) and ":serialized:" in value


@pytest.mark.parametrize("ent_coef", [0.2, Scheduled(lambda _: 0.2)], ids=["number", "schedule"])
def test_an_unused_target_schedule_is_not_pickled(ent_coef: Any, build: Build) -> None:
    agent = build(SAC, ent_coef=ent_coef, target_entropy=LinearSchedule(-1.0, -2.0, steps=5))
    with zipfile.ZipFile(_saved(agent)) as file:
        _assert_nothing_of_ours(file.read("data").decode())


_WITHOUT_ENTROREG = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "entroreg":
            raise ModuleNotFoundError("entroreg is blocked", name=name)
sys.meta_path.insert(0, Blocker())
try:
    import entroreg
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("entroreg is not blocked")
import numpy as np
from stable_baselines3 import SAC
observations = np.array(json.loads(sys.argv[1]), dtype=np.float32)
agents = [SAC.load(path, device="cpu") for path in sys.argv[2:]]
print(json.dumps([agent.predict(observations, deterministic=True)[0].tolist() for agent in agents]))
"""


def test_ours_loads_where_entroreg_is_absent(zips: Any, tmp_path: Path) -> None:
    arguments = [json.dumps(OBSERVATIONS.tolist()), *(str(path) for _, path in zips.values())]
    command = [sys.executable, "-c", _WITHOUT_ENTROREG, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [_actions(agent) for agent, _ in zips.values()]
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["auto", "dual", "fixed", "scheduled"])
def test_ours_to_ours_restores_everything(
    kind: str, zips: Any, build: Build, differences: Any, env: gym.Env[Any, Any]
) -> None:
    agent, path = zips[kind]
    loaded = SAC.load(path, env=env)
    assert type(loaded.controller) is type(agent.controller)
    assert loaded._alpha_follows_learning_rate is agent._alpha_follows_learning_rate is (kind == "auto")
    assert set(differences(loaded, agent).values()) == {0.0}
    _assert_same_state(loaded.controller.state_dict(), agent.controller.state_dict())
    if kind in ("auto", "dual"):
        first, second = loaded.controller.problem, agent.controller.problem
        for name in ("target", "bound", "loss", "minimum", "maximum", "limits", "step"):
            assert getattr(first, name) == getattr(second, name), name
        assert first.step == 40
        assert loaded.log_ent_coef is loaded.controller.log_alpha
        assert loaded.ent_coef_optimizer.param_groups[0]["params"][0] is loaded.log_ent_coef
    if kind == "scheduled":
        assert loaded.controller.step == 40
        assert loaded.controller.schedule == agent.controller.schedule
    replay_buffer = io.BytesIO()
    agent.save_replay_buffer(replay_buffer)
    again = SAC.load(path)  # two loads, trained on alike, stay alike, and alpha's own rate and clamps hold
    assert set(differences(_continue(loaded, replay_buffer), _continue(again, replay_buffer)).values()) == {0.0}
    if kind == "dual":
        assert loaded.ent_coef_optimizer.param_groups[0]["lr"] == 0.02
        assert 0.1 - 1e-6 <= float(loaded.controller.value) <= 0.5 + 1e-6


def _assert_same_state(first: Any, second: Any) -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            _assert_same_state(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            _assert_same_state(one, other)
    else:
        assert first == second


@pytest.mark.parametrize("where", ["path", "without suffix", "string", "BytesIO", "file", "file at an offset"])
def test_what_save_and_load_take(where: str, zips: Any, tmp_path: Path) -> None:
    agent, _ = zips["dual"]
    path = tmp_path / "new" / "folder" / "agent.zip"
    if where in ("path", "without suffix", "string"):
        target = {"path": path, "without suffix": path.with_suffix(""), "string": str(path.with_suffix(""))}[where]
        agent.save(target)
        assert [item.name for item in path.parent.iterdir()] == ["agent.zip"]
        loaded = [SAC.load(target), SAC.load(str(path)), stable_baselines3.SAC.load(target)]
    elif where == "BytesIO":
        loaded = [SAC.load(_saved(agent)), stable_baselines3.SAC.load(_saved(agent))]
    else:
        with (tmp_path / "raw").open("wb") as file:
            file.write(b"before" * (where == "file at an offset"))
            agent.save(file)
        with (tmp_path / "raw").open("rb") as file:
            loaded = [SAC.load(file)]
    for other in loaded:
        np.testing.assert_array_equal(_actions(other), _actions(agent))
    assert loaded[0].controller.problem.step == 40


def test_a_suffix_of_ones_own_is_kept(zips: Any, tmp_path: Path) -> None:
    zips["auto"][0].save(tmp_path / "agent.v1")
    assert [item.name for item in tmp_path.iterdir()] == ["agent.v1"]
    assert SAC.load(tmp_path / "agent.v1").controller.problem.step == 40


def test_a_failed_save_leaves_the_old_zip(
    build: Build, zips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.zip"
    zips["auto"][0].save(path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            build(SAC, seed=9).save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["agent.zip"]
    np.testing.assert_array_equal(_actions(SAC.load(path)), _actions(zips["auto"][0]))
    build(SAC, seed=9).save(path)
    assert path.read_bytes() != before


def test_what_is_no_zip_is_refused_as_theirs(tmp_path: Path) -> None:
    for cls in (SAC, stable_baselines3.SAC):
        with pytest.raises(ValueError, match="wasn't a zip-file"):
            cls.load(io.BytesIO(b"something else"))
        with pytest.raises(FileNotFoundError, match=r"absent\.zip"):
            cls.load(tmp_path / "absent")


def test_a_later_format_is_refused(zips: Any, tmp_path: Path) -> None:
    path = tmp_path / "later.zip"
    with zipfile.ZipFile(zips["auto"][1]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'"version": 1', b'"version": 2') if "json" in name else content)
    with pytest.raises(ValueError, match="stored in format 2, this entroreg reads up to 1: upgrade entroreg"):
        SAC.load(path)


def test_parameters_in_place(build: Build, zips: Any, differences: Any) -> None:
    agent, path = zips["auto"]
    assert sorted(agent.get_parameters()) == ["actor.optimizer", "critic.optimizer", "ent_coef_optimizer", "policy"]
    other = build(SAC, seed=3).learn(30)
    alpha = other.log_ent_coef
    other.set_parameters(agent.get_parameters())
    found = differences(other, agent)
    assert {name for name, value in found.items() if value} <= {"ent_coef"}  # as in SB3: no parameter of a module
    other.set_parameters(path)
    assert other.log_ent_coef is alpha is other.controller.log_alpha
    assert other.ent_coef_optimizer is other.controller.optimizer
    stock = build(stable_baselines3.SAC, seed=3)
    stock.set_parameters(agent.get_parameters())
    np.testing.assert_array_equal(_actions(stock), _actions(agent))
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        build(SAC, ent_coef=0.1).set_parameters({"policy": agent.get_parameters()["policy"]})
