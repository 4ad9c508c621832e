"""Environments with the attributes that they are given, and what such attributes may be."""

from __future__ import annotations

import enum
from collections import namedtuple
from typing import Any

import gymnasium as gym
from saving_oracle import through_json

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
