"""Environments with the attributes that they are given, and what such attributes may be."""

from __future__ import annotations

import enum
import functools
import random
from collections import defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from saving_oracle import through_json
from stable_baselines3.common.monitor import Monitor

import entroreg.envs  # noqa: F401  (registers the tasks)
from entroreg.envs.saving import environment_state, load_environment_state

Pair = namedtuple("Pair", "left right")


class Phase(enum.Enum):
    WALK = 1
    RUN = 2


class Ball:
    def __init__(self, at: float = 0.0) -> None:
        self.at = at


class Holding(gym.Env[Any, Any]):
    """An environment with the attributes that it is given."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def walk(self) -> str:
        return "walks"

    def run(self) -> str:
        return "runs"


def moved(first: Any, second: Any) -> Any:
    """Give the state of the first environment to the second one, through files, and return it."""
    load_environment_state(second, through_json(environment_state(first)))
    return second


def through(saved: Any, live: Any = None) -> Any:
    """Return what an attribute is after another one was loaded into it."""
    return moved(Holding(it=saved), Holding(it=live)).it


def everything() -> Holding:
    """Return an environment with something of every kind."""
    ball, numbers, count = Ball(2.0), np.arange(12.0), 0

    def counted() -> int:
        nonlocal count
        count += 1
        return count

    return Holding(
        **{"rng": np.random.default_rng(0), "old": np.random.RandomState(1), "python": random.Random(1)},
        **{"mt": np.random.Generator(np.random.MT19937(1)), "philox": np.random.Generator(np.random.Philox(1))},
        **{
            "torch": torch.Generator(),
            "row": np.ones((2, 3)),
            "numbers": numbers,
            "view": numbers[1:9:2].reshape(2, 2),
        },
        **{"objects": np.array([1, "a", None], dtype=object), "text": np.array(["ab"]), "long": [1.0] * 20},
        **{"counted": counted, "partial": functools.partial(max, 3), "draw": np.random.default_rng(0).normal},
        **{"kind": Ball, "balls": [ball, Ball()], "one": ball, "table": {"a": ball.__init__, 3: (1, [2])}},
        **{"lists": defaultdict(list, {1: [2]}), "line": deque([1, 2], 5), "set": {1, 2}, "range": range(3)},
        **{"phase": Phase.RUN, "pair": Pair(1, np.ones(2)), "tensor": torch.ones(2), "scalar": np.float32(1.5)},
        **{"net": torch.nn.Linear(2, 1), "none": None, "name": "x"},
    )


def hopper() -> Any:
    """Return a task on MuJoCo with a window onto its memory."""
    env = Monitor(gym.make("entroreg/Protagonist-v0", task="Hopper-v5"))
    env.reset(seed=0)
    return env


def navigation() -> Any:
    """Return a task that compiles its model anew for each episode."""
    env = Monitor(gym.make("entroreg/Navigation-v0", obstacles=2))
    env.reset(seed=0)
    return env


def node_of(state: Any, *names: Any) -> Any:
    """Return the node of an attribute of an attribute."""
    for name in names:
        state = state["attributes"][name]
    return state


def forged(change: Callable[[dict[str, Any]], Any], env: Any = None) -> tuple[Any, dict[str, Any]]:
    """Return an environment, and a state of it with a change."""
    env = everything() if env is None else env
    state = through_json(environment_state(env))
    change(state)
    return env, state


def nodes(tree: Any) -> Iterator[Any]:
    """Yield all nodes of a tree."""
    yield tree
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes(item)


def mujoco_beneath(env: Any) -> tuple[Any, ...]:
    """Return the model and the data of an environment; nothing where it has none."""
    found = [vars(env.unwrapped).get(name, vars(env.unwrapped).get(f"_{name}")) for name in ("model", "data")]
    return tuple(part for part in found if part is not None)


def integers_of(env: Any) -> dict[str, bytes]:
    """Return all integers of a model, of its options and of its data."""
    parts = mujoco_beneath(env)
    found = {}
    for part in (*parts, *(part.opt for part in parts[:1])):
        for name in dir(part):
            value = getattr(part, name) if not name.startswith("_") else None
            if isinstance(value, int) or (isinstance(value, np.ndarray) and value.dtype.kind in "iu"):
                found[f"{type(part).__name__}.{name}"] = np.asarray(value).tobytes()
    return found
