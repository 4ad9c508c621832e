"""What a checkpoint of a training with a full replay buffer costs: seconds, bytes, and steps that are not made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import SAC as StockSAC
from stable_baselines3.common.callbacks import BaseCallback

from entroreg.agents import SAC
from entroreg.agents.training_checkpoint import TrainingCheckpoint
from entroreg.benchmarks.trust.files import sync_files, versions, written_bytes

__all__ = ["CostPlan", "SlowdownPlan", "checkpoint_rounds", "slowdown_rounds"]

ENV = "HalfCheetah-v5"
_FIRST_STEPS = 100  # random ones, so that there is an episode to save in the middle of
_MINUTE = 60.0


@dataclass(frozen=True)
class CostPlan:
    """How checkpoints are timed."""

    transitions: int
    """That the buffer has room for; all are there."""
    between: int
    """Environment steps from one checkpoint to the next."""
    rounds: int
    """Of each method, in turn."""


@dataclass(frozen=True)
class SlowdownPlan:
    """How a training with checkpoints is compared with one without."""

    transitions: int
    """That the buffer has room for; all are there."""
    engine: str
    """As in SAC."""
    warm_up_seconds: float
    """Of training before the first window."""
    window_seconds: float
    """Of training, with one checkpoint in it or none."""
    rounds: int
    """Windows of each, in turn."""


def checkpoint_rounds(plan: CostPlan, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Time checkpoints of our SAC, and SB3's ``save`` with ``save_replay_buffer``.

    Args:
        plan: of what size.
        folder: that exists; all is written there and removed.

    Returns:
        For each quantity and method the values by round: seconds of the first save into an empty folder, of the
        next one in the same place and of loading, and the bytes that each save wrote. ``sb3-fsync`` also waits, as
        ours does, until the files are on disk.
    """
    ours = _Ours(_begun(_ours(plan.transitions, "eager")), folder / "entroreg")
    stock = _begun(_stock(plan.transitions))
    methods: dict[str, _Ours | _Stock] = {
        "entroreg": ours,
        "sb3": _Stock(stock, folder / "sb3", sync=False),
        "sb3-fsync": _Stock(stock, folder / "sb3-fsync", sync=True),
    }
    rounds: dict[str, dict[str, list[float]]] = {
        name: {method: [] for method in methods}
        for name in ("first_seconds", "first_bytes", "next_seconds", "next_bytes", "load_seconds")
    }
    for _ in range(plan.rounds):
        for method, saved in methods.items():
            saved.begin()
            for which in ("first", "next"):
                seconds, size = _timed_save(saved.save, saved.folder)
                rounds[f"{which}_seconds"][method].append(seconds)
                rounds[f"{which}_bytes"][method].append(size)
                if which == "first":
                    _act(saved.agent, plan.between)
            rounds["load_seconds"][method].append(_seconds(saved.load))
            shutil.rmtree(saved.folder)
    return rounds


def slowdown_rounds(plan: SlowdownPlan, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Train in windows with one checkpoint and without, in turn.

    Args:
        plan: how long.
        folder: that exists; checkpoints are written there and removed.

    Returns:
        ``steps_per_second`` of ``no-checkpoint`` and of ``checkpoint-a-window`` by round, and ``pause_seconds`` of
        the latter.
    """
    agent = _begun(_ours(plan.transitions, plan.engine))
    _train(agent, plan.warm_up_seconds)
    checkpoint = TrainingCheckpoint(agent, folder / "checkpoints" / "last")
    checkpoint.save()  # the first is whole, those that a training waits for every minute are not
    rates: dict[str, list[float]] = {"no-checkpoint": [], "checkpoint-a-window": []}
    pauses: list[float] = []
    for _ in range(plan.rounds):
        rates["no-checkpoint"].append(_train(agent, plan.window_seconds).rate)
        window = _train(agent, plan.window_seconds, checkpoint.save)
        rates["checkpoint-a-window"].append(window.rate)
        pauses.append(window.pause)
    shutil.rmtree(folder / "checkpoints")
    return {"steps_per_second": rates, "pause_seconds": {"checkpoint-a-window": pauses}}


def numbers_of(rounds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Return the share of a minute that a checkpoint takes, and by round how many steps are lost to it."""
    rates = rounds["steps_per_second"]
    with_one, without = np.array(rates["checkpoint-a-window"]), np.array(rates["no-checkpoint"])
    pause = float(np.median(rounds["pause_seconds"]["checkpoint-a-window"]))
    return {"pause_share_of_a_minute": pause / _MINUTE, "steps_lost": (1.0 - with_one / without).tolist()}


class _Ours:
    def __init__(self, agent: SAC, folder: Path) -> None:
        self.agent, self.folder = agent, folder

    def begin(self) -> None:
        self._checkpoint = TrainingCheckpoint(self.agent, self.folder / "last")
        self.folder.mkdir()

    def save(self) -> None:
        self._checkpoint.save()

    def load(self) -> None:
        self._checkpoint.load()


class _Stock:
    def __init__(self, agent: StockSAC, folder: Path, *, sync: bool) -> None:
        self.agent, self.folder, self._sync = agent, folder, sync

    def begin(self) -> None:
        self.folder.mkdir()

    def save(self) -> None:
        self.agent.save(self.folder / "model.zip")
        self.agent.save_replay_buffer(self.folder / "buffer.pkl")
        if self._sync:
            sync_files(self.folder)

    def load(self) -> None:
        loaded = StockSAC.load(self.folder / "model.zip", env=self.agent.get_env(), device="cpu")
        loaded.load_replay_buffer(self.folder / "buffer.pkl")


class _Window(BaseCallback):
    """Ends training after some seconds, half of which pass before the save."""

    def __init__(self, seconds: float, save: Callable[[], None] | None) -> None:
        super().__init__()
        self._begun = time.perf_counter()
        self._seconds, self._save = seconds, save
        self.pause = 0.0
        self.rate = 0.0

    def _on_rollout_start(self) -> None:
        if self._save is not None and time.perf_counter() - self._begun > self._seconds / 2:
            self.pause, self._save = _seconds(self._save), None

    def _on_training_start(self) -> None:
        self._begun, self._first = time.perf_counter(), self.num_timesteps

    def _on_training_end(self) -> None:
        self.rate = (self.num_timesteps - self._first) / (time.perf_counter() - self._begun)

    def _on_step(self) -> bool:
        return time.perf_counter() - self._begun < self._seconds


def _train(agent: SAC, seconds: float, save: Callable[[], None] | None = None) -> _Window:
    window = _Window(seconds, save)
    agent.learn(10**9, callback=window, reset_num_timesteps=False, log_interval=10**9)
    return window


def _ours(transitions: int, engine: str) -> SAC:
    return SAC(
        "MlpPolicy", gym.make(ENV), buffer_size=transitions, learning_starts=_FIRST_STEPS, seed=0, engine=engine
    )


def _stock(transitions: int) -> StockSAC:
    return StockSAC("MlpPolicy", gym.make(ENV), buffer_size=transitions, learning_starts=_FIRST_STEPS, seed=0)


def _begun(agent: Any) -> Any:
    """Take the first steps, and fill the buffer with random transitions of the environment's size."""
    agent.learn(_FIRST_STEPS, log_interval=10**9)
    buffer, rng = agent.replay_buffer, np.random.default_rng(0)
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
        for rows in np.array_split(np.arange(len(array)), max(1, len(array) // 10_000)):
            array[rows[0] : rows[-1] + 1] = rng.standard_normal(array[rows].shape)
    buffer.pos, buffer.full = 0, True
    return agent


def _act(agent: Any, steps: int) -> None:
    """Take steps without updates: the transitions matter, not what is learned."""
    learning_starts, agent.learning_starts = agent.learning_starts, agent.num_timesteps + steps + 1
    agent.learn(steps, reset_num_timesteps=False, log_interval=10**9)
    agent.learning_starts = learning_starts


def _timed_save(save: Callable[[], None], folder: Path) -> tuple[float, float]:
    before = versions(folder)
    seconds = _seconds(save)
    return seconds, float(written_bytes(before, versions(folder)))


def _seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
