"""Stable-Baselines3's SAC as its documentation saves and loads it, in the two usual ways, killed like ours.

``sb3`` writes ``model.zip`` and ``buffer.pkl`` over and over; ``sb3-callback`` has SB3's CheckpointCallback, which
writes new files each time, and goes on from the newest that load. A marker file says that a save is under way.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from entroreg.benchmarks.cells import RESULT, is_done, read_result, write_result
from entroreg.benchmarks.trust.contents import digest_of_json, digest_of_weights
from entroreg.benchmarks.trust.kills import Inspection, Training
from entroreg.benchmarks.trust.trainings import BUFFER_SIZE, ENV, EVERY, SAC_STEPS

__all__ = ["METHODS", "of_stock"]

METHODS = ("sb3", "sb3-callback")
_MARK = "saving-"
_PREFIX = "rl_model"  # of CheckpointCallback
_EVALUATION_SEED = 10_000
# What SB3, zipfile, torch and pickle raise for files that are cut off.
_UNREADABLE = (
    AssertionError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


class _Pair(NamedTuple):
    """A model and the replay buffer that belongs to it."""

    model: Path
    buffer: Path


def of_stock(method: str, preset: str) -> Training:
    """Return the training of a method of ``METHODS``, with the settings of our ``sac``."""
    return Training(
        start=partial(_start, method, SAC_STEPS[preset]),
        saves=_saves,
        inspect=partial(_inspect, method),
        outcome=partial(_outcome, method),
    )


def _start(method: str, steps: int, folder: Path) -> int:
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    if is_done(folder):
        return 0
    model = _begun(method, folder, steps)
    model.learn(steps - model.num_timesteps, callback=_Marked(method, folder), reset_num_timesteps=False)
    env = Monitor(gym.make(ENV))
    env.reset(seed=_EVALUATION_SEED)
    returns, lengths = evaluate_policy(model, env, n_eval_episodes=2, return_episode_rewards=True)
    write_result(folder, {"returns": returns, "lengths": lengths, "steps": model.num_timesteps})
    return 0


def _begun(method: str, folder: Path, steps: int) -> SAC:
    env = Monitor(gym.make(ENV))
    for pair in _pairs(method, folder):
        if not (pair.model.exists() and pair.buffer.exists()):
            continue
        try:
            model = SAC.load(pair.model, env=env, device="cpu")
            model.load_replay_buffer(pair.buffer)
        except _UNREADABLE:
            if method == "sb3":  # there is no other
                raise
        else:
            return model
    return SAC(
        "MlpPolicy",
        env,
        batch_size=32,
        buffer_size=min(BUFFER_SIZE, steps),
        learning_starts=100,
        policy_kwargs={"net_arch": [32, 32]},
        seed=0,
        device="cpu",
    )


def _pairs(method: str, folder: Path) -> Iterator[_Pair]:
    """Yield where a training may go on from, the newest first."""
    if method == "sb3":
        yield _Pair(folder / "model.zip", folder / "buffer.pkl")
        return
    steps = [int(path.stem.split("_")[-2]) for path in folder.glob(f"{_PREFIX}_*_steps.*")]
    for step in sorted(set(steps), reverse=True):
        model = folder / f"{_PREFIX}_{step}_steps.zip"
        yield _Pair(model, folder / f"{_PREFIX}_replay_buffer_{step}_steps.pkl")


class _Overwrite(BaseCallback):
    """Saves to the same two files, as SB3's documentation has it."""

    def __init__(self, pair: _Pair) -> None:
        super().__init__()
        self._pair = pair

    def _on_step(self) -> bool:
        assert isinstance(self.model, SAC)  # BaseCallback has any algorithm
        self.model.save(self._pair.model)
        self.model.save_replay_buffer(self._pair.buffer)
        return True


class _Marked(BaseCallback):
    """Saves at regular steps, and marks for how long."""

    def __init__(self, method: str, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._saver = (
            _Overwrite(next(_pairs(method, folder)))
            if method == "sb3"
            else CheckpointCallback(1, str(folder), _PREFIX, save_replay_buffer=True)
        )

    def _init_callback(self) -> None:
        self._saver.init_callback(self.model)

    def _on_step(self) -> bool:
        if self.num_timesteps % EVERY == 0:
            mark = self._folder / f"{_MARK}{os.getpid()}-{self.num_timesteps}"
            mark.touch()
            self._saver.on_step()
            mark.unlink()
        return True


def _saves(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.glob(f"{_MARK}*"))


def _inspect(method: str, folder: Path) -> Inspection:
    """Return the files that do not load, and whether the pair to go on from is incomplete or of different saves."""
    corrupt: list[str] = []
    mismatched = False
    for pair in _pairs(method, folder):
        steps = _steps_of_model(pair.model), _steps_of_buffer(pair.buffer)
        corrupt += [path.name for path, step in zip(pair, steps, strict=True) if path.exists() and step is None]
        if method == "sb3":  # where there are others, an incomplete pair is passed over
            mismatched |= pair.model.exists() != pair.buffer.exists()
        mismatched |= steps[0] is not None and steps[1] is not None and abs(steps[0] - steps[1]) > EVERY // 2
    return Inspection(tuple(corrupt), mismatched=mismatched)


def _steps_of_model(path: Path) -> int | None:
    try:
        return int(SAC.load(path, device="cpu").num_timesteps)
    except _UNREADABLE:
        return None


def _steps_of_buffer(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            buffer = pickle.load(file)
    except _UNREADABLE:
        return None
    # It wraps once at most. One step is missing for each save that was gone on from: SB3's callbacks come before a
    # transition is stored, and a run that goes on begins with a reset.
    return int(buffer.pos + buffer.full * buffer.buffer_size)


def _outcome(method: str, folder: Path) -> dict[str, str]:
    pair = next(_pairs(method, folder))
    with pair.buffer.open("rb") as file:
        buffer = pickle.load(file)
    arrays = (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones)
    return {
        RESULT: digest_of_json(read_result(folder)),
        "weights": digest_of_weights(pair.model),
        "replay": hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(),
    }
