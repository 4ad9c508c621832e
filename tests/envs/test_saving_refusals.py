"""What cannot be saved exactly is refused by name, found out by trying, or saved between episodes."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium import spaces
from saving_holding import Ball, Holding
from saving_oracle import through_json
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv

from entroreg.envs.saving import (
    CannotSaveError,
    environment_state,
    load_environment_state,
    why_not_exact,
)
from entroreg.envs.tasks import make_task

ADVICE = ": put SeededEpisodes around the environment, which is then saved between episodes"


class Slotted:
    __slots__ = ("at",)


class SlottedToo:
    __slots__ = ("__dict__", "at")


class Numbers(list):  # type: ignore[type-arg]
    pass


class Loop(threading.Thread):
    pass


def _nested(depth: int) -> Any:
    inner: Any = 0
    for _ in range(depth):
        inner = [inner]
    return inner


def _shrunk() -> set[int]:
    found = set(range(1000))
    for item in range(10, 1000):
        found.discard(item)
    return found


UNSEEN: dict[str, tuple[Callable[[], Any], str]] = {
    "lock": (threading.Lock, "plain data, got _thread.lock, whose state cannot be seen"),
    "thread": (threading.Thread, "plain data, got threading.Thread, whose state cannot be seen"),
    "generator": (lambda: (i for i in ()), "plain data, got builtins.generator, whose state cannot be seen"),
    "iterator": (lambda: iter([1]), "plain data, got builtins.list_iterator, whose state cannot be seen"),
    "C object": (mujoco.MjvScene, "plain data, got mujoco._structs.MjvScene, whose state cannot be seen"),
    "spec": (mujoco.MjSpec, "plain data, got mujoco._specs.MjSpec, whose state cannot be seen"),
    "queue": (multiprocessing.Queue, "plain data, got multiprocessing.queues.Queue, whose state cannot be seen"),
    "weak": (
        weakref.WeakValueDictionary,
        "plain data, got weakref.WeakValueDictionary, whose state cannot be seen",
    ),
    "loop": (asyncio.Event, "plain data, got asyncio.locks.Event, whose state cannot be seen"),
    "bytearray": (bytearray, "plain data, got builtins.bytearray, whose state cannot be seen"),
    "recarray": (
        lambda: np.zeros(2, "i4,f8"),
        "an array of numbers or texts, got one of [('f0', '<i4'), ('f1', '<f8')]",
    ),
    "masked": (lambda: np.ma.array([1.0]), "plain data, got numpy.ma.MaskedArray, whose state cannot be seen"),
    "nested": (lambda: _nested(70), "at most 64 objects within each other, got more"),
    "set": (_shrunk, "a set as it would be when made anew, got one ordered by what it once held"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_state_is_refused_by_name(name: str) -> None:
    make, message = UNSEEN[name]
    path = "env.it" + "[0]" * (63 if name == "nested" else 0)
    with pytest.raises(CannotSaveError) as found:
        environment_state(Holding(it=make()))
    assert str(found.value) == f"{path} must be {message}{ADVICE}"


@pytest.mark.parametrize("make", [Slotted, SlottedToo, Numbers, Loop])
def test_classes_with_more_than_attributes_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(CannotSaveError, match=rf"^env\.it must be plain data, got \S*{make.__name__}, whose state"):
        environment_state(Holding(it=make()))


def test_a_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, pytest.raises(CannotSaveError) as found:
        environment_state({"env": Holding(logs=[log])})
    assert (
        str(found.value)
        == f"env.logs[0] must be plain data, got _io.TextIOWrapper, whose state cannot be seen{ADVICE}"
    )


def test_environments_in_other_processes_are_refused() -> None:
    env = SubprocVecEnv([partial(gym.make, "CartPole-v1")], start_method="fork")
    with pytest.raises(CannotSaveError, match=r"^env must be plain data, got stable_\S*SubprocVecEnv, whose state"):
        environment_state(env)
    env.close()


def test_logs_are_left_open(tmp_path: Path) -> None:
    """A Monitor's file has no part in its environment's state."""
    first, second = (Monitor(gym.make("CartPole-v1"), str(tmp_path / name)) for name in ("a", "b"))
    first.reset(seed=0)
    second.reset(seed=1)
    writer = second.results_writer
    load_environment_state(second, through_json(environment_state(first)))
    assert second.results_writer is writer
    first.close(), second.close()


FREE = '<mujoco><worldbody><body><freejoint/><geom size=".1"/></body></worldbody></mujoco>'
DELAYED = """<mujoco><worldbody><body><joint name="x" type="slide"/><geom size=".1"/></body></worldbody>
<actuator><motor joint="x" delay=".01" nsample="5"/></actuator></mujoco>"""
PLUGIN = """<mujoco><extension><plugin plugin="mujoco.pid"/></extension>
<worldbody><body><joint name="x" type="slide"/><geom size=".1"/></body></worldbody>
<actuator><plugin joint="x" plugin="mujoco.pid"/></actuator></mujoco>"""


def _sleepy() -> mujoco.MjModel:
    model = mujoco.MjModel.from_xml_string(FREE)
    model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
    return model


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (_sleepy, "mjENBL_SLEEP"),
        (lambda: mujoco.MjModel.from_xml_string(DELAYED), "nhistory"),
        (lambda: mujoco.MjData(mujoco.MjModel.from_xml_string(DELAYED)), "history"),
        (lambda: mujoco.MjModel.from_xml_string(PLUGIN), "nplugin"),
    ],
)
def test_mujoco_with_more_state_is_refused(make: Callable[[], Any], got: str) -> None:
    env = Holding(it=make())
    message = f"env.it must be without sleeping bodies, delays, plugins and flexes, got {got}{ADVICE}"
    with pytest.raises(CannotSaveError) as found:
        environment_state(env)
    assert str(found.value) == message
    forged = {"kind": "object", "type": "saving_holding.Holding", "attributes": {"it": {"kind": "mujoco"}}}
    with pytest.raises(ValueError) as refused:  # and nothing of it is written either
        load_environment_state(env, forged)
    assert str(refused.value) == message


def test_a_diverged_simulation_is_refused() -> None:
    data = mujoco.MjData(mujoco.MjModel.from_xml_string(FREE))
    data.qvel[0] = np.nan
    with pytest.raises(CannotSaveError) as found:
        environment_state(Holding(data=data))
    assert str(found.value) == f"env.data must be finite, got infinity or NaN{ADVICE}"


# Found out by trying.


class Walk(gym.Env[Any, Any]):
    """A random walk that takes its steps from somewhere."""

    observation_space, action_space = spaces.Box(-9, 9, (1,), np.float32), spaces.Discrete(2)
    history: list[float] = []  # noqa: RUF012  (state in a class is what is tried)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0.0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += self.drawn()
        return np.array([self.at], np.float32), self.at, False, False, {}

    def drawn(self) -> float:
        return float(self.np_random.normal())


class FromTheProcess(Walk):
    def drawn(self) -> float:
        return float(np.random.normal())


class InTheClass(Walk):
    def drawn(self) -> float:
        self.history.append(1.0)
        return float(len(self.history))


class WithAGlobalGoal(Walk):
    goal = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        found = super().reset(seed=seed)
        type(self).goal = float(self.np_random.normal())
        return found

    def drawn(self) -> float:
        return self.goal


class CountingEpisodes(Walk):
    count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        type(self).count += 1
        return np.full(1, self.count, np.float32), {}


class WithOneBuffer(Walk):
    """Returns the same array at each step, with other numbers in it."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        found = super().step(action)
        self.buffer = getattr(self, "buffer", np.zeros(1, np.float32))
        self.buffer[...] = found[0]
        return self.buffer, *found[1:]


class WithADefault(Walk):
    def drawn(self, seen: list[float] = []) -> float:  # noqa: B006  (the same)
        seen.append(1.0)
        return float(len(seen))


class WithALateBall(Walk):
    ball: Ball | None = None

    def drawn(self) -> float:
        self.ball = self.ball or Ball()
        self.ball.at += 1.0
        return self.ball.at


def _with_a_closure() -> gym.Env[Any, Any]:
    rng = np.random.default_rng(0)
    env = Walk()
    env.drawn = lambda: float(rng.normal())  # type: ignore[method-assign]
    return env


def _with_a_hidden_closure() -> gym.Env[Any, Any]:
    class Hidden(Walk):
        def drawn(self) -> float:
            seen.append(1.0)
            return float(len(seen))

    seen: list[float] = []
    return Hidden()


DIFFER = "two environments with the same state differed at step 1 from there"
DIFFER_LATER = "two environments with the same state differed at step 26 from there"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Walk, None),
        (_with_a_closure, None),
        (WithOneBuffer, None),
        (FromTheProcess, DIFFER),
        (InTheClass, DIFFER),
        (WithAGlobalGoal, DIFFER),
        (WithADefault, DIFFER),
        (CountingEpisodes, DIFFER_LATER),
        (_with_a_hidden_closure, DIFFER),
        (WithALateBall, "env.ball must be"),
        (
            lambda: make_task("dm_control/cartpole-swingup-v0"),
            "env.env.env.env._env._physics._contexts_lock must be",
        ),
    ],
)
def test_why_not_exact(make: Callable[[], Any], reason: str | None) -> None:
    found = why_not_exact(make)
    assert found == reason if reason in (None, DIFFER, DIFFER_LATER) else str(found).startswith(str(reason))


def test_why_not_exact_closes_both() -> None:
    made: list[Any] = []

    class Closing(Walk):
        closed = False

        def close(self) -> None:
            self.closed = True

    def make() -> Any:
        made.append(Closing())
        return made[-1]

    assert why_not_exact(make) is None
    assert [env.closed for env in made] == [True, True]
