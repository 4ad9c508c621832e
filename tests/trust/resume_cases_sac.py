"""Trainings of SAC, DiscreteSAC and populations that are stopped and go on.

`python resume_cases_sac.py CASE FOLDER` goes on with one and prints a digest of what it saw.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from resume_environments import Drawing, Goal, Odd, Rough
from resume_oracle import Trace, leaves
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.her import HerReplayBuffer
from torch import nn

from entroreg import Dual, Fixed, PerStateDual, Scheduled
from entroreg.agents import SAC, DiscreteSAC, ResumableTraining, SACPopulation
from entroreg.agents.replay_tables import ReplayTables
from entroreg.agents.training_state import training_state
from entroreg.envs.saving import SeededEpisodes, WithinEpisodeError
from entroreg.schedules import LinearSchedule

NEVER = 10**9
SMALL: dict[str, Any] = {"learning_starts": 10, "batch_size": 8, "buffer_size": 1000, "device": "cpu"}


class Noisy(BaseFeaturesExtractor):
    """Batch norm, whose running moments no gradient moves, and dropout, which draws."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, 6)
        width = int(np.prod(space.shape))
        self.layers = nn.Sequential(nn.Linear(width, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


class Prioritised(ReplayBuffer):
    """A buffer with state of its own: a generator, a row for each step, and a number that grows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.priorities = np.zeros((self.buffer_size, self.n_envs), dtype=np.uint16)
        self.draw, self.largest = np.random.default_rng(0), 1

    def add(self, *args: Any) -> None:
        self.largest += 1
        self.priorities[self.pos] = self.largest
        super().add(*args)

    def sample(self, batch_size: int, env: Any = None) -> Any:
        weights = self.priorities[: self.size(), 0] / self.priorities[: self.size(), 0].sum()
        return self._get_samples(self.draw.choice(self.size(), batch_size, p=weights), env)


@dataclass(frozen=True)
class Case:
    """A training.

    Args:
        make: from a seed to an agent, or to a population.
        stops: steps at which it is stopped; "end" for the end of an episode.
        steps: of the training.
    """

    make: Callable[[int], Any]
    stops: tuple[int | str, ...] = (25,)
    steps: int = 40


def agent(
    seed: int,
    cls: Any = SAC,
    env: Any = "InvertedPendulum-v5",
    policy: str = "MlpPolicy",
    n_envs: int = 1,
    **more: Any,
) -> Any:
    """Return a small agent, whose settings are made anew where they hold state."""
    torch.manual_seed(seed)  # for a controller that is a network
    made = {name: value() if isinstance(value, functools.partial) else value for name, value in more.items()}
    network = {"net_arch": [8], **made.pop("policy_kwargs", {})}
    if callable(env):
        env = env(seed)
    elif n_envs > 1:
        env = DummyVecEnv([lambda: Monitor(gym.make(env)) for _ in range(n_envs)])
    return cls(policy, env, seed=seed, policy_kwargs=network, **{**SMALL, "engine": "eager", **made})


def population(seed: int, **more: Any) -> SACPopulation:
    """Return three small agents."""
    seeds = range(3 * seed, 3 * seed + 3)
    settings = {**SMALL, "policy_kwargs": {"net_arch": [8]}, "engine": "eager", **more}
    return SACPopulation("MlpPolicy", "InvertedPendulum-v5", seeds, **settings)


def starting(make: Callable[[int], Any], updates: int) -> Callable[[int], Any]:
    """Return a maker of agents whose update is compiled from a number of updates on."""

    def made(seed: int) -> Any:
        one = make(seed)
        one.engine_starts = updates
        return one

    return made


def normalised(seed: int) -> VecNormalize:
    return VecNormalize(DummyVecEnv([lambda: Monitor(gym.make("InvertedPendulum-v5")) for _ in range(2)]))


def rough(seed: int) -> VecNormalize:
    return VecNormalize(DummyVecEnv([lambda: Monitor(Rough(gym.make("InvertedPendulum-v5"))) for _ in range(2)]))


def seeded(seed: int) -> gym.Env[Any, Any]:
    return Monitor(SeededEpisodes(gym.make("InvertedPendulum-v5"), seed))


def _with(**settings: Any) -> Callable[[int], Any]:
    return functools.partial(agent, **settings)


def _dual() -> Dual:
    target = LinearSchedule(-1.0, -3.0, steps=60)
    return Dual(target, initial=0.3, learning_rate=0.05, minimum=0.28, maximum=0.32)


def _per_state() -> PerStateDual:
    return PerStateDual(nn.Linear(4, 1, dtype=torch.float64), target=-1.0, learning_rate=0.05)


OU = functools.partial(OrnsteinUhlenbeckActionNoise, np.zeros(1), 0.3 * np.ones(1))
CASES: dict[str, Case] = {
    "plain": Case(_with(), (5, "end", 25)),
    "packed, ring wrapped": Case(_with(engine="auto", buffer_size=16), (12, 16, 35)),
    "ring wrapped": Case(_with(buffer_size=16), (16, 35)),
    "Ant": Case(_with(env="Ant-v5"), (30,), 40),
    "Humanoid": Case(_with(env="Humanoid-v5"), (28,), 36),
    "Dual with a schedule and clamps": Case(_with(ent_coef=functools.partial(_dual))),
    "Fixed": Case(_with(ent_coef=functools.partial(Fixed, 0.3))),
    "Scheduled": Case(_with(ent_coef=functools.partial(Scheduled, LinearSchedule(1.0, 0.0, steps=60)))),
    "PerStateDual": Case(_with(ent_coef=functools.partial(_per_state))),
    "learning-rate schedule": Case(_with(learning_rate=lambda remaining: 1e-2 * remaining)),
    "action noise": Case(_with(action_noise=OU)),
    "action noise of two": Case(_with(action_noise=OU, n_envs=2), (24,)),
    "gSDE": Case(_with(use_sde=True, sde_sample_freq=4, use_sde_at_warmup=True, train_freq=3), (6, 27)),
    "two environments": Case(_with(n_envs=2), (24,)),
    "VecNormalize": Case(_with(env=normalised), (6, 24)),
    "hindsight": Case(
        _with(
            env=lambda seed: Monitor(Goal()),
            policy="MultiInputPolicy",
            replay_buffer_class=HerReplayBuffer,
            replay_buffer_kwargs={"n_sampled_goal": 2},
            buffer_size=30,
        ),
        (17, 36),
    ),
    "memory saved": Case(
        _with(
            optimize_memory_usage=True,
            replay_buffer_kwargs={"handle_timeout_termination": False},
            buffer_size=20,
        ),
        (13, 20, 37),
    ),
    "three-step returns": Case(_with(n_steps=3)),
    "train_freq 4": Case(_with(train_freq=4, gradient_steps=-1), (8, 24)),
    "train_freq of an episode": Case(_with(train_freq=(1, "episode"), gradient_steps=-1), ("end",)),
    "batch norm and dropout": Case(_with(policy_kwargs={"features_extractor_class": Noisy})),
    "odd names and dtypes": Case(_with(env=lambda seed: Monitor(Odd()), policy="MultiInputPolicy")),
    "a buffer of one's own": Case(_with(replay_buffer_class=Prioritised)),
    "every generator": Case(_with(env=lambda seed: Monitor(Drawing()))),
    "SeededEpisodes": Case(_with(env=seeded), ("end",)),
    "DiscreteSAC": Case(_with(cls=DiscreteSAC, env="CartPole-v1", entropy_penalty=0.5, q_clip=0.5), (5, 25)),
    "population": Case(population, (5, 25)),
    "engine": Case(_with(engine="compiled")),
    "engine of DiscreteSAC": Case(_with(cls=DiscreteSAC, env="CartPole-v1", engine="compiled")),
    "engine of a population": Case(functools.partial(population, engine="compiled")),
    "engine that starts later": Case(starting(_with(engine="auto"), 20), (25, 35)),
}


# In which each field of the state has a part.
EVERYTHING: dict[str, Case] = {
    "rough": Case(
        _with(
            env=rough,
            use_sde=True,
            action_noise=OU,
            ent_coef=functools.partial(Dual, LinearSchedule(-1.0, -3.0, steps=60), learning_rate=0.01),
            learning_rate=lambda remaining: 1e-2 * remaining,
            train_freq=2,
            buffer_size=24,
        ),
        (4, 36),
        72,
    ),
    "packed": Case(starting(_with(engine="auto", buffer_size=16), 12), (5, 20), 32),
    "gSDE": Case(_with(use_sde=True, batch_size=5, ent_coef=functools.partial(_per_state)), (20,), 30),
    "hindsight": Case(
        _with(
            env=lambda seed: Monitor(Goal()),
            policy="MultiInputPolicy",
            replay_buffer_class=HerReplayBuffer,
            ent_coef=functools.partial(Scheduled, LinearSchedule(1.0, 0.0, steps=60)),
            buffer_size=20,
        ),
        (31,),
        45,
    ),
    "discrete": Case(
        _with(cls=DiscreteSAC, env="CartPole-v1", entropy_penalty=0.5, ent_coef=functools.partial(Fixed, 0.3)),
        (20,),
        45,
    ),
}


class Memory(KVWriter):
    """What is logged, but for times."""

    def __init__(self, dumps: list[dict[str, Any]]) -> None:
        self.dumps = dumps

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        values = {name: value for name, value in key_values.items() if not name.startswith("time/")}
        self.dumps.append({"step": step, "excluded": {name: key_excluded.get(name) for name in values}, **values})

    def close(self) -> None:
        pass


# Of an agent: the time of day, what the two were given, what is written before it is read, what an engine finds.
_MAY_DIFFER = {"start_time", "seed", "_current_progress_remaining", "_last_episode_starts"}
_MAY_DIFFER |= {"_engine_fits", "engine_status", "ent_coef"}  # a zip's word; the controller holds the coefficient


def attributes(model: Any) -> dict[str, Any]:
    """Return what an agent holds directly, whoever thinks that it is state or not."""
    plain = (bool, int, float, str, np.ndarray, np.generic, dict, deque)
    found = {name: value for name, value in vars(model).items() if isinstance(value, plain)}
    kept = {name: value for name, value in found.items() if name not in _MAY_DIFFER and "kwargs" not in name}
    return {**kept, "entropy_watch": model.entropy_watch.state_dict()}


class Record(BaseCallback):
    """Notes the state between every two rollouts, and a row for each episode."""

    def __init__(self, trace: Trace, saving: ResumableTraining, since: int, end: int) -> None:
        super().__init__()
        self._trace, self._saving, self._since, self._end = trace, saving, since, end

    def note(self) -> None:
        replay = ReplayTables(self.model.replay_buffer)
        rows = {name: table.rows[: table.filled] for name, table in replay.tables().items()}
        if self.model.num_timesteps >= self._since:
            with contextlib.suppress(WithinEpisodeError):
                seen = {**training_state(self.model, replay), "seen": attributes(self.model)}
                self._trace.states[self.model.num_timesteps] = leaves(seen, rows)

    def _on_rollout_start(self) -> None:
        if not self._saving.stopping:
            self.note()

    def _on_step(self) -> bool:
        self.logger.record_mean("mean of the steps", float(self.num_timesteps))
        if self.num_timesteps % 34 == 0:
            self.logger.record("now and then", self.num_timesteps, exclude="nowhere")
        logged = dict(self.model.logger.name_to_value)
        for info in self.locals["infos"]:
            if "episode" in info:
                row = {"step": self.num_timesteps, "r": info["episode"]["r"], **logged}
                self._trace.rows.append({name: v for name, v in row.items() if not name.startswith("time/")})
        return self.num_timesteps < self._end


def train(
    made: Any,
    steps: int,
    folder: Path,
    *,
    since: int = 0,
    resume: bool = False,
    every: int = NEVER,
    stop: int = NEVER,
    end: int = NEVER,
) -> list[Trace]:
    """Train an agent, or the members of a population, and return what was seen of each.

    Args:
        made: agent or population.
        steps: of the whole training.
        folder: of the checkpoints.
        since: step from which on states are noted.
        resume: whether to go on from there.
        every: steps between two checkpoints.
        stop: step from which on a stop is asked for.
        end: step at which the training just ends, as if it were killed.
    """
    members = made.members if isinstance(made, SACPopulation) else [made]
    traces: list[Trace] = []
    callbacks: list[Any] = []
    for index, one in enumerate(members):
        at, trace = folder / str(index), Trace()
        one.set_logger(Logger(None, [Memory(trace.dumps)]))
        asked = functools.partial(lambda member: member.num_timesteps >= stop, one)
        saving = ResumableTraining(at, every, resume_from=at if resume else None, stop=asked)
        callbacks.append([saving, Record(trace, saving, since, end)])
        traces.append(trace)
    if isinstance(made, SACPopulation):
        made.learn(steps, member_callbacks=callbacks)
    else:
        made.learn(steps, callbacks[0])
    if stop == end == NEVER:
        for _, record in callbacks:
            record.note()
    return traces


def digest(traces: list[Trace]) -> str:
    """Return a hash of all that was seen."""
    found = hashlib.sha256()
    for trace in traces:
        for step, state in sorted(trace.states.items()):
            for path, value in sorted(state.items()):
                content = value.tobytes() if isinstance(value, np.ndarray | np.generic) else repr(value).encode()
                found.update(f"{step} {path} ".encode() + content)
        found.update(repr([sorted(one.items(), key=repr) for one in (*trace.rows, *trace.dumps)]).encode())
    return found.hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    case = CASES[sys.argv[1]]
    print(digest(train(case.make(9), case.steps, Path(sys.argv[2]), resume=True)))
