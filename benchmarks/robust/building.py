"""From options to the training that they ask for, with clear errors where they do not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
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
    force_curriculum,
    homogeneous,
)
from entroreg.agents.adversarial.players import Frozen, build_player
from entroreg.benchmarks.agent_memory import require_buffers_fit, require_networks_fit
from entroreg.benchmarks.devices import device_of
from entroreg.benchmarks.errors import MISSING, USAGE, UserError, unknown_name
from entroreg.benchmarks.evaluation import discounted_returns
from entroreg.benchmarks.robust.options import CurriculumOptions, TrainAdversarial, TrainQARL
from entroreg.curriculum import GammaCurriculum
from entroreg.envs import Forces, find_forces, make_task

REFERENCE_SEED = 1_000  # added: the floor does not come from an agent that is compared with


@contextmanager
def as_user_errors(env_id: str) -> Iterator[None]:
    """Turn what is raised for a task or a setting that does not fit into one line for the user."""
    try:
        yield
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"{env_id} needs a package that is not here: {error}", MISSING) from error
    except gym.error.Error as error:
        if env_id in gym.registry:
            raise UserError(f"{env_id} cannot be made: {error}") from error
        raise unknown_name("environment", env_id, gym.registry) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{env_id} cannot be trained in: {error}", USAGE) from error


def settings_of(options: TrainAdversarial) -> PlayerSettings:
    """Return how both players learn."""
    players, run = options.players, options.run
    device_of(run.device)  # one that is not here is refused, and auto stays auto
    return PlayerSettings(
        learning_rate=players.learning_rate,
        buffer_size=min(players.buffer_size, run.steps),  # more is never filled
        learning_starts=players.learning_starts,
        batch_size=players.batch_size,
        gamma=players.gamma,
        train_freq=players.train_freq,
        net=players.net,
        engine=run.engine,
        device=run.device,
    )


def require_trainable(options: TrainAdversarial) -> None:
    """Refuse a task, a force or a size that cannot be trained, before anything is written.

    Raises:
        UserError: with what is wrong.
    """
    settings = settings_of(options)
    with as_user_errors(options.run.env):
        forces_of(options)
        env = make_task(options.run.env)
    spaces = env.observation_space, env.action_space
    require_buffers_fit(*spaces, settings.buffer_size, agents=2)
    require_networks_fit(*spaces, settings.net, settings.batch_size, agents=2)
    env.close()


def forces_of(options: TrainAdversarial) -> Forces:
    """Return the forces of the adversary."""
    forces = find_forces(options.run.env)
    return forces if options.adversary.force is None else replace(forces, limit=options.adversary.force)


def floor_from(reference: Path) -> float:
    """Return the floor of a curriculum: half of the discounted return in a reference.json.

    Raises:
        ValueError: a return that is not above 0, of which half would ask for more than the whole.
    """
    found = float(json.loads(reference.read_text())["discounted_return"])
    if found <= 0.0:
        raise ValueError(
            f"a SAC that was trained for the floor must have a discounted return above 0, got {found:.3g}: half of "
            "it is no floor; give --return-floor, or more --reference-steps"
        )
    return 0.5 * found


def train_reference(options: TrainQARL, stop: Callable[[], bool] = lambda: False) -> tuple[SAC, float]:
    """Train the SAC whose discounted return says what the curriculum may ask for.

    Args:
        options: of the training that asks.
        stop: asked after each step; True ends at once.

    Returns:
        The agent, and its mean discounted return over training-length episodes; of no use if stopped.
    """
    cut = options.players.episode_steps
    env = make_task(options.run.env)
    env = env if cut is None else TimeLimit(env, cut)
    seed = REFERENCE_SEED + options.run.seed
    agent = build_player(env, settings_of(options), seed).learn(
        options.curriculum.reference_steps, lambda _locals, _globals: not stop(), log_interval=None
    )
    act = Frozen(agent, stochastic=False)
    found = discounted_returns(act, env, options.run.eval_episodes, seed, options.players.gamma, stop=stop)
    env.close()
    return agent, float(np.mean(found)) if found else math.nan


def build_training(options: TrainAdversarial, return_floor: float | None) -> TwoPlayers:
    """Return a fresh training.

    Args:
        options: what to train.
        return_floor: of the curriculum, where it has one.
    """
    shared: dict[str, Any] = {
        "settings": settings_of(options),
        "forces": forces_of(options),
        "episodes": options.players.episodes,
        "episode_steps": options.players.episode_steps,
        "seed": options.run.seed,
    }
    if not isinstance(options, TrainQARL):
        return RARL(options.run.env, **shared)
    return _qarl(options.run.env, options, options.curriculum, return_floor, shared)


def _qarl(
    task: str, options: TrainQARL, curriculum: CurriculumOptions, floor: float | None, shared: dict[str, Any]
) -> TwoPlayers:
    if curriculum.curriculum == "linear":
        length = options.players.episode_steps or 1_000
        return QARL(task, LinearTemperature(max(1, 2 * options.run.steps // (3 * length))), **shared)
    assert floor is not None, "only a straight line needs none"
    if curriculum.curriculum == "homogeneous":
        return homogeneous(task, floor, **shared)
    if curriculum.curriculum == "force":
        return force_curriculum(task, floor, **shared)
    kind = PointCurriculum if curriculum.curriculum == "point" else GammaCurriculum
    return QARL(task, kind(floor), **shared)
