"""The methods of the suite: how each trains a protagonist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.wrappers import TimeLimit

from entroreg.agents import SAC
from entroreg.agents.adversarial import (
    QARL,
    RARL,
    LinearTemperature,
    PlayerSettings,
    PointCurriculum,
    TwoPlayers,
    attacked_sac,
    force_curriculum,
    homogeneous,
    mixed_nash,
    worst_parameter_sac,
)
from entroreg.agents.adversarial.players import Frozen, build_player
from entroreg.agents.adversarial.worst_parameters import plain_sac
from entroreg.atomic import write_json
from entroreg.benchmarks.evaluation import Act, discounted_returns
from entroreg.benchmarks.made_once import made_once
from entroreg.benchmarks.robust.building import floor_from
from entroreg.curriculum import GammaCurriculum
from entroreg.envs import ActionShare, Forces, Randomised, find_forces, find_set, make_task
from entroreg.envs.tasks import Env

if TYPE_CHECKING:
    from entroreg.benchmarks.suites.robust import Task


@dataclass(frozen=True)
class Trained:
    """What a method leaves."""

    protagonist: SAC
    """On the task's own observation."""
    adversary: Act | None = None
    """Of the training, from the task's own observation to shares of what it has."""
    forces: Forces | ActionShare | None = None
    """What that adversary has."""
    curriculum: list[dict[str, float]] = field(default_factory=list)
    """Its steps, where it takes any."""


def forces_of(name: str, task: Task) -> Forces:
    """Return the forces of a task with the suite's limit."""
    return replace(find_forces(name), limit=task.force)


def settings_of(task: Task) -> PlayerSettings:
    """Return the settings of all players of a task."""
    return PlayerSettings(**{"device": "cpu", **task.settings})


def reference_floor(name: str, task: Task, seed: int, folder: Path) -> float:
    """Return half of a trained SAC's discounted return; the first cell trains it, the others wait.

    Args:
        name: of the task.
        task: its settings.
        seed: of the reference.
        folder: where it is kept.

    Raises:
        ValueError: as for ``floor_from``.
    """
    with made_once(folder) as fresh:
        if fresh is not None:
            agent = _sac(name, task, seed).protagonist
            act, env = Frozen(agent, stochastic=False), _cut(make_task(name), task)
            found = float(np.mean(discounted_returns(act, env, task.episodes, seed, agent.gamma)))
            write_json(fresh / "reference.json", {"discounted_return": found, "steps": task.steps, "seed": seed})
    return floor_from(folder / "reference.json")


def train_method(method: str, name: str, task: Task, floor: float, seed: int) -> Trained:
    """Train one method.

    Args:
        method: a key of ``METHODS``.
        name: of the task.
        task: its settings.
        floor: for the returns of a curriculum.
        seed: of everything that is drawn.
    """
    return METHODS[method](name, task, floor, seed)


def _cut(env: Env, task: Task) -> Env:
    return env if task.episode_steps is None else TimeLimit(env, task.episode_steps)


def _sac(name: str, task: Task, seed: int) -> Trained:
    agent = build_player(_cut(make_task(name), task), settings_of(task), seed)
    return Trained(agent.learn(task.steps, log_interval=None))


def _randomised(name: str, task: Task, _floor: float, seed: int) -> Trained:
    env = Randomised(make_task(name), find_set(name, task.uncertainty_set))
    agent = build_player(_cut(env, task), settings_of(task), seed)
    return Trained(agent.learn(task.steps, log_interval=None))


def _mixed_nash(name: str, *, forces: Forces, **kwargs: Any) -> TwoPlayers:
    """Return the training whose adversary has a share of each action in place of the suite's forces."""
    return mixed_nash(name, **kwargs)


def _attacked(name: str, task: Task, _floor: float, seed: int) -> Trained:
    agent = attacked_sac(name, task.steps, settings_of(task), episode_steps=task.episode_steps, seed=seed)
    return Trained(agent.learn(task.steps, log_interval=None))


def _worst_parameters(name: str, task: Task, _floor: float, seed: int) -> Trained:
    settings = settings_of(task)
    agent = worst_parameter_sac(
        name, find_set(name, task.uncertainty_set), settings, episode_steps=task.episode_steps, seed=seed
    )
    return Trained(plain_sac(agent.learn(task.steps, log_interval=None), name, settings, seed))


def _players(build: Callable[..., TwoPlayers], *arguments: Any) -> Callable[[str, Task, float, int], Trained]:
    """Return the training of two players: ``build(task, *arguments(floor), settings, ...)``."""

    def train(name: str, task: Task, floor: float, seed: int) -> Trained:
        given = [argument(floor, task) for argument in arguments]
        agent = build(
            name,
            *given,
            settings=settings_of(task),
            forces=forces_of(name, task),
            episode_steps=task.episode_steps,
            seed=seed,
        )
        steps = _Steps(agent)
        agent.learn(2 * task.steps)
        protagonist = agent.plain_protagonist()
        return Trained(protagonist, lambda observation: agent.push(observation), agent.forces, steps.rows)

    return train


class _Steps:
    """Keep the steps that a curriculum takes."""

    def __init__(self, agent: TwoPlayers) -> None:
        self.rows: list[dict[str, float]] = []
        observe = agent.curriculum.observe

        def kept(temperatures: Any, returns: Any) -> dict[str, float] | None:
            step = observe(temperatures, returns)
            if step is not None:
                self.rows.append({"num_timesteps": agent.num_timesteps, **step})
            return step

        agent.curriculum.observe = kept  # type: ignore[method-assign]


METHODS: dict[str, Callable[[str, Task, float, int], Trained]] = {
    "sac": lambda name, task, _floor, seed: _sac(name, task, seed),
    "domain-randomisation": _randomised,
    "rarl": _players(RARL),
    "mixed-nash": _players(_mixed_nash),
    "action-attack": _attacked,
    "worst-parameters": _worst_parameters,
    "qarl": _players(QARL, lambda floor, _task: GammaCurriculum(floor)),
    # Two thirds of the episodes of a training whose episodes are all of full length.
    "qarl-linear": _players(
        QARL, lambda _floor, task: LinearTemperature(2 * 2 * task.steps // 3 // (task.episode_steps or 1000))
    ),
    "qarl-point": _players(QARL, lambda floor, _task: PointCurriculum(floor)),
    "qarl-homogeneous": _players(homogeneous, lambda floor, _task: floor),
    "force-curriculum": _players(force_curriculum, lambda floor, _task: floor),
}
