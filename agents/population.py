"""Several SAC agents in one process, updated as one."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import get_device
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor

from entroreg import _checks
from entroreg.agents.controller_state import AnyController
from entroreg.agents.engine.population_fit import why_not_population
from entroreg.agents.engine.population_stack import keep_state_dicts_apart
from entroreg.agents.engine.population_update import Draw, PopulationEngine, draw
from entroreg.agents.random_streams import RandomStreams, undisturbed
from entroreg.agents.sac import SAC

ENGINES = ("compiled", "eager")
PER_MEMBER = ("learning_rate", "gamma", "tau", "target_entropy")


class SACPopulation:
    """P SAC agents that collect in turns and are updated together, by one batched computation.

    Every member is an ordinary ``SAC`` with an environment, a replay buffer and random streams of its own: what it
    learns is what ``SAC(..., seed=seed)`` learns alone, up to the order in which floating-point numbers are added.
    Worth its while where an update of one agent leaves the device idle, as on a GPU.

    Args:
        policy: as in ``SAC``; one that the engine can take.
        env: a registered name, or a function without arguments that returns a new environment.
        seeds: one for each member.
        ent_coef: "auto", "auto_<initial>", a number, a ``Dual`` or ``Fixed`` that each member gets a copy of, or
            a function without arguments that returns one of these, called for each member.
        engine: "compiled" compiles the update when it is first needed, "eager" never.
        kwargs: all other arguments of ``SAC``. ``learning_rate``, ``gamma``, ``tau`` and ``target_entropy`` may be
            lists with one value for each member.

    Raises:
        TypeError: env is one environment, which members cannot share.
        ValueError: no seeds, a list of another length, members that differ in shapes or counts, a policy that the
            engine cannot take, another controller, or no compiler for engine="compiled".

    Example:
        >>> population = SACPopulation("MlpPolicy", "Pendulum-v1", seeds=[0, 1], engine="eager", gamma=[0.9, 0.99])
        >>> [member.num_timesteps for member in population.learn(102).members]
        [102, 102]
    """

    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: str | Callable[[], GymEnv],
        seeds: Iterable[int] = range(8),
        *,
        ent_coef: str | float | AnyController | Callable[[], str | float | AnyController] = "auto",
        engine: str = "compiled",
        **kwargs: Any,
    ) -> None:
        self.seeds = tuple(operator.index(seed) for seed in seeds)
        if not self.seeds:
            raise ValueError("seeds must name at least one member, got none")
        if not isinstance(env, str) and not callable(env):
            raise TypeError(
                f"env must be a registered name or a function that makes one environment for each member, got {env}"
            )
        _checks.require_choice("engine", engine, ENGINES)
        self._device = get_device(kwargs.get("device", "auto"))
        if engine == "compiled":
            _require_compiler(self._device)
        self.members: list[SAC] = []
        self._streams: list[RandomStreams] = []
        for index, seed in enumerate(self.seeds):
            arguments = {name: self._own(name, value, index) for name, value in kwargs.items()}
            coefficient = ent_coef() if callable(ent_coef) else copy.deepcopy(ent_coef)
            with undisturbed(self._device):
                own_env = env if isinstance(env, str) else env()
                self.members.append(SAC(policy, own_env, seed=seed, ent_coef=coefficient, **arguments))
                self._streams.append(RandomStreams(self._device))
            self.members[-1].entropy_watch.whose = f" of {self._name(index)}"
            keep_state_dicts_apart(self.members[-1])
        self._require_fit()
        self._engine = PopulationEngine(self.members, compiled=engine == "compiled")

    def _own(self, name: str, value: Any, index: int) -> Any:
        """Return a member's value of an argument: its own of a list, or its own copy."""
        if name not in PER_MEMBER or not isinstance(value, list | tuple):
            return copy.deepcopy(value)
        if len(value) != len(self.seeds):
            raise ValueError(f"{name} must have one value for each of {len(self.seeds)} seeds, got {len(value)}")
        return value[index]

    def _require_fit(self) -> None:
        reason = why_not_population(self.members, [self._name(i) for i in range(len(self.members))])
        if reason is not None:
            raise ValueError(reason)

    def _name(self, index: int) -> str:
        return f"member {index} (seed {self.seeds[index]})"

    @contextmanager
    def _named(self, index: int) -> Iterator[None]:
        """Name a member where something of it is not finite."""
        try:
            yield
        except FloatingPointError as error:
            raise FloatingPointError(f"{self._name(index)}: {error}") from error

    @property
    def num_timesteps(self) -> int:
        """Environment steps that each member has taken."""
        return self.members[0].num_timesteps

    def learn(
        self,
        total_timesteps: int,
        callback: Callable[[Self], bool | None] | None = None,
        log_interval: int | None = 4,
        *,
        member_callbacks: Sequence[MaybeCallback] | None = None,
        reset_num_timesteps: bool = True,
    ) -> Self:
        """Train all members; the global random generators are left as they were.

        Args:
            total_timesteps: environment steps of each member.
            callback: called with the population after each round of collection and update; False ends training.
            log_interval: episodes between two dumps of a member's log.
            member_callbacks: Stable-Baselines3's callbacks of each member; where one ends its training, all end.
            reset_num_timesteps: whether steps are counted from 0.

        Returns:
            The population.

        Raises:
            ValueError: members were made to differ, or torch cannot compile the update.
            FloatingPointError: a member's observation, reward, action, loss, gradient or coefficient became NaN or
                infinite; it is named.
        """
        own = [None] * len(self.members) if member_callbacks is None else member_callbacks
        if len(own) != len(self.members):
            raise ValueError(f"member_callbacks must have one entry for each member, got {len(own)}")
        with undisturbed(self._device):
            started = [self._start(i, total_timesteps, one, reset_num_timesteps) for i, one in enumerate(own)]
            self._require_fit()
            total_timesteps = started[0][0]
            while self.num_timesteps < total_timesteps:
                draws = [self._collect(i, one, log_interval) for i, (_, one) in enumerate(started)]
                if not all(keep_on for keep_on, _ in draws):
                    break
                self._train([own_draws for _, own_draws in draws])
                if callback is not None and callback(self) is False:
                    break
            for _, one in started:
                one.on_training_end()
        return self

    def _start(
        self, index: int, total_timesteps: int, callback: MaybeCallback, reset_num_timesteps: bool
    ) -> tuple[int, BaseCallback]:
        agent = self.members[index]
        with self._named(index), self._streams[index].active():
            run = f"seed-{self.seeds[index]}"
            total_timesteps, own = agent._setup_learn(total_timesteps, callback, reset_num_timesteps, run)
            own.on_training_start(locals(), globals())
        return total_timesteps, own

    def _collect(self, index: int, callback: BaseCallback, log_interval: int | None) -> tuple[bool, list[Draw]]:
        """Take a member's steps; return whether to go on, and what its updates draw."""
        agent: Any = self.members[index]
        with self._named(index), self._streams[index].active():
            rollout = agent.collect_rollouts(
                agent.env,
                train_freq=agent.train_freq,
                action_noise=agent.action_noise,
                callback=callback,
                learning_starts=agent.learning_starts,
                replay_buffer=agent.replay_buffer,
                log_interval=log_interval,
            )
            if not rollout.continue_training or agent.num_timesteps <= agent.learning_starts:
                return rollout.continue_training, []
            updates = agent.gradient_steps if agent.gradient_steps >= 0 else rollout.episode_timesteps
            return True, [draw(agent) for _ in range(updates)]

    def _train(self, draws: list[list[Draw]]) -> None:
        """Update all members once for each of their draws, and log."""
        if not draws[0]:
            return
        for agent in self.members:
            agent.policy.set_training_mode(True)
            agent._update_learning_rate([agent.actor.optimizer, agent.critic.optimizer, *agent._alpha_optimizers()])
        names: tuple[str, ...] = ()
        rows = []
        for step, together in enumerate(zip(*draws, strict=True)):
            names, row = self._engine.update(together, move_targets=self.members[0]._moves_targets(step))
            rows.append(row)
        # One transfer for all members, so that a GPU is waited for once.
        for index, own_rows in enumerate(torch.stack(rows, dim=1).cpu()):
            self._log(index, names, list(own_rows))

    def _log(self, index: int, names: tuple[str, ...], rows: list[Tensor]) -> None:
        agent = self.members[index]
        if agent._mirror is not None:
            agent._mirror.push()
        agent._n_updates += len(rows)
        with self._named(index):
            agent._log_update(names, rows)

    def save(self, folder: str | Path) -> None:
        """Save each member as FOLDER/seed-K.zip, which ``SAC.load`` and Stable-Baselines3 read.

        Args:
            folder: of the zips; made where there is none.

        Raises:
            ValueError: a seed stands twice, so its files would be one.
        """
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ to be names of files, got {self.seeds}: use members[i].save(path)")
        for seed, agent in zip(self.seeds, self.members, strict=True):
            agent.save(Path(folder, f"seed-{seed}.zip"))


def _require_compiler(device: torch.device) -> None:
    from entroreg.agents.engine.compiling import why_not_compile  # takes seconds to import

    reason = why_not_compile(device.type)
    if reason is not None:
        raise ValueError(
            f"a population's update cannot be compiled here: {reason}: install one, or use engine='eager'"
        )
