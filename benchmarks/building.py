"""From options to real environments and agents, with clear errors where they do not fit."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

from entroreg.agents import SAC, DiscreteSAC, SACPopulation
from entroreg.agents.discrete_sac import TARGET_SHARE
from entroreg.agents.ent_coef import constant_of, initial_alpha_of
from entroreg.agents.on_engine import ENGINE_STARTS
from entroreg.benchmarks.agent_memory import require_buffers_fit, require_networks_fit
from entroreg.benchmarks.devices import device_of
from entroreg.benchmarks.errors import MISSING, USAGE, UserError, unknown_name
from entroreg.benchmarks.options import AgentOptions, TrainDiscreteSAC, TrainOptions, TrainSAC, kind_of, runs_of
from entroreg.benchmarks.ranges import require_size
from entroreg.controllers import Dual
from entroreg.envs.saving import SeededEpisodes, why_not_exact
from entroreg.measures import max_categorical_entropy
from entroreg.schedules import LinearSchedule

ACTION_SPACES = {"sac": spaces.Box, "discrete-sac": spaces.Discrete}


def make_environment(env_id: str) -> gym.Env[Any, Any]:
    """Return the environment of an id, with episode statistics.

    Args:
        env_id: as registered with gymnasium.

    Returns:
        The environment in a Monitor.

    Raises:
        UserError: the id is unknown (the nearest ones are named) or a package that it needs is missing.
    """
    try:
        return Monitor(gym.make(env_id))
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"{env_id} needs a package that is not here: {_first_line(error)}", MISSING) from error
    except (gym.error.Error, ValueError) as error:  # ValueError: a module without a name, as in ":Pendulum-v1"
        if env_id in gym.registry:
            raise UserError(f"{env_id} cannot be made: {_first_line(error)}") from error
        raise unknown_name("environment", env_id, gym.registry) from error


def make_training_environment(env_id: str) -> tuple[gym.Env[Any, Any], str | None]:
    """Return an environment whose training can be saved, and why that is only between episodes, if so.

    Args:
        env_id: as registered with gymnasium.

    Returns:
        The environment in a Monitor, with seeded episodes where its state cannot be seen, and the reason or None.

    Raises:
        UserError: as in ``make_environment``.
    """
    env = make_environment(env_id)
    reason = why_not_exact(lambda: make_environment(env_id))
    if reason is None:
        return env, None
    env.close()
    return Monitor(SeededEpisodes(gym.make(env_id))), reason


def require_trainable(options: TrainOptions, env: gym.Env[Any, Any]) -> None:
    """Refuse a training that goes on beyond its steps, or whose replay buffers would not fit the memory.

    Args:
        options: what to train.
        env: from ``make_environment``.

    Raises:
        UserError: with what is wrong.
    """
    steps, train_freq = options.run.steps, options.agent.train_freq
    if train_freq > steps:
        raise UserError(f"train_freq must be at most steps, {steps}, got {train_freq}: it is steps between updates")
    kept = min(options.agent.buffer_size, options.run.steps)
    require_buffers_fit(env.observation_space, env.action_space, kept, options.run.seeds or 1)


def build_agent(options: TrainOptions, env: gym.Env[Any, Any]) -> SAC | DiscreteSAC:
    """Return a fresh agent for an environment.

    Args:
        options: what to train.
        env: from ``make_environment`` or ``make_training_environment``.

    Returns:
        The agent.

    Raises:
        UserError: the actions are of another kind, or a setting is refused by the agent.
    """
    policy = _policy_for(options, env)
    with _as_user_errors():
        arguments = _arguments(options, env)
        if isinstance(options, TrainDiscreteSAC):
            remedies = options.discrete
            return DiscreteSAC(
                policy,
                env,
                **arguments,
                double_average_q=remedies.double_average_q,
                q_clip=remedies.q_clip,
                entropy_penalty=remedies.entropy_penalty,
            )
        return SAC(policy, env, **arguments)


def build_population(options: TrainSAC, envs: Sequence[gym.Env[Any, Any]]) -> SACPopulation:
    """Return a fresh population.

    Args:
        options: what to train.
        envs: from ``make_training_environment``, one for each seed.

    Returns:
        The population.

    Raises:
        UserError: as in ``build_agent``.
    """
    policy = _policy_for(options, envs[0])
    seeds = [run.run.seed for run in runs_of(options)]
    with _as_user_errors():
        arguments = _arguments(options, envs[0])
        del arguments["seed"]
        pays = _updates(options.agent, options.run.steps) >= ENGINE_STARTS
        if arguments["engine"] == "auto":
            arguments["engine"] = "compiled" if pays else "eager"
        return SACPopulation(policy, functools.partial(next, iter(envs)), seeds, **arguments)


def _policy_for(options: TrainOptions, env: gym.Env[Any, Any]) -> str:
    kind = kind_of(options)
    if not isinstance(env.action_space, ACTION_SPACES[kind]):
        fitting = [name for name, space in ACTION_SPACES.items() if isinstance(env.action_space, space)]
        advice = f"use 'entroreg train {fitting[0]}'" if fitting else "no agent here takes them"
        raise UserError(f"{kind} cannot act in {options.run.env}, which has {env.action_space}: {advice}")
    return "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"


@contextmanager
def _as_user_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, AssertionError, RuntimeError) as error:
        # What torch and Stable-Baselines3 raise for a device or a space that they do not take.
        raise UserError(f"the agent cannot be built: {_first_line(error)}", USAGE) from error


def _arguments(options: TrainOptions, env: gym.Env[Any, Any]) -> dict[str, Any]:
    agent, run = options.agent, options.run
    device_of(run.device)  # one that is not here is refused, and auto stays auto
    require_networks_fit(
        env.observation_space, env.action_space, agent.net, agent.batch_size, agents=run.seeds or 1
    )
    ent_coef: Any = _coefficient(agent.ent_coef)
    shared = {
        "learning_rate": agent.learning_rate,
        "batch_size": agent.batch_size,
        "buffer_size": min(agent.buffer_size, run.steps),  # more is never filled
        "learning_starts": agent.learning_starts,
        "train_freq": agent.train_freq,
        "gradient_steps": agent.gradient_steps,
        "gamma": agent.gamma,
        "policy_kwargs": {"net_arch": list(agent.net)},
        "entropy_backup": agent.entropy_backup,
        "seed": run.seed,
        "device": run.device,
        "engine": run.engine,
    }
    if not agent.needs_own_dual:
        return {**shared, "ent_coef": ent_coef, "target_entropy": agent.target_entropy}
    if not isinstance(ent_coef, str):
        raise ValueError(
            f"ent_coef must be 'auto' when its target, bounds or learning rate are set, got {ent_coef}"
        )
    return {**shared, "ent_coef": _dual(agent, run.steps, env.action_space)}


def _coefficient(asked: str) -> str | float:
    """Return a word for a learned coefficient, or the one that stays."""
    learned = asked.startswith("auto")
    require_size("ent_coef", initial_alpha_of(asked) if learned else constant_of(asked))
    return asked if learned else constant_of(asked)


def _dual(agent: AgentOptions, steps: int, action_space: spaces.Space[Any]) -> Dual:
    target = _default_target(action_space) if agent.target_entropy == "auto" else float(agent.target_entropy)
    updates = max(1, _updates(agent, steps))
    initial = initial_alpha_of(agent.ent_coef)
    if agent.ent_coef == "auto":  # a default must not be what violates the bounds
        initial = max(agent.alpha_minimum or 0.0, min(initial, agent.alpha_maximum or math.inf))
    return Dual(
        target if agent.target_entropy_end is None else LinearSchedule(target, agent.target_entropy_end, updates),
        initial=initial,
        learning_rate=agent.learning_rate if agent.alpha_learning_rate is None else agent.alpha_learning_rate,
        minimum=agent.alpha_minimum,
        maximum=agent.alpha_maximum,
    )


def _updates(agent: AgentOptions, steps: int) -> int:
    per_training = agent.train_freq if agent.gradient_steps == -1 else agent.gradient_steps
    return (steps - agent.learning_starts) // agent.train_freq * per_training


def _default_target(action_space: spaces.Space[Any]) -> float:
    if isinstance(action_space, spaces.Discrete):
        return TARGET_SHARE * max_categorical_entropy(int(action_space.n))
    return -float(spaces.flatdim(action_space))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
