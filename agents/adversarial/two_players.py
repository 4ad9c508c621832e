"""The loop of adversarial training: the adversary learns, the protagonist learns, the curriculum looks on."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import configure_logger

from entroreg import _checks
from entroreg.agents.adversarial.curricula import Curriculum, floor_of
from entroreg.agents.adversarial.exporting import without_last_components
from entroreg.agents.adversarial.phase import play_phase
from entroreg.agents.adversarial.players import (
    DEFAULT,
    TEMPERATURE,
    Frozen,
    PlayerSettings,
    Side,
    build_player,
)
from entroreg.agents.adversarial.reporting import PrefixedLogger, record_phases, show_progress
from entroreg.agents.adversarial.saving import load_players, read_arguments, save_players
from entroreg.agents.adversarial.taking_back import Moment, longest_episode
from entroreg.agents.replay_tables import ReplayTables
from entroreg.agents.sac import SAC
from entroreg.envs import ActionShare, Forces, find_forces, make_task
from entroreg.envs.tasks import Task

_STREAM = 0x51524C  # sets the seeds of phases apart from those of anything else with the same seed
_WARN_AFTER = 0.25  # share of the training
_WITH_TEMPERATURE = replace(DEFAULT, ent_coef=TEMPERATURE)


class TwoPlayers:
    """Two SAC agents on one task, a protagonist and an adversary who pushes bodies, trained in turns.

    In each iteration a temperature is drawn for each of some episodes; the adversary learns in these, then the
    protagonist, in episodes with the same temperatures, and the curriculum is told the discounted returns. Both see
    the temperature as the last component of their observations.

    Args:
        task: id of a MuJoCo task, or a function that returns a new environment.
        curriculum: of the temperatures.
        forces: of the adversary, those of ``entroreg.envs.find_forces`` if left out; or the share of each action
            that it has in their place.
        protagonist: how the protagonist learns.
        adversary: how the adversary learns; ``ent_coef="temperature"`` for the temperature of the episode.
        episodes: of each phase.
        episode_steps: control steps after which a training episode is cut; None for the task's own limit.
        scales_force: whether what the curriculum draws is a share of the force limit, not a temperature.
        seed: of everything that is drawn.
        tensorboard_log: folder for TensorBoard, or None.
        verbose: 1 to print the log.

    Attributes:
        num_timesteps: environment steps of both players so far.
        iterations: done so far.

    Raises:
        TypeError: the task is not on MuJoCo, or its observations are no vector.
        ValueError: unknown task or body, or a number out of its range.
    """

    def __init__(
        self,
        task: Task,
        curriculum: Curriculum,
        *,
        forces: Forces | ActionShare | None = None,
        protagonist: PlayerSettings = DEFAULT,
        adversary: PlayerSettings = _WITH_TEMPERATURE,
        episodes: int = 5,
        episode_steps: int | None = 500,
        scales_force: bool = False,
        seed: int = 0,
        tensorboard_log: str | None = None,
        verbose: int = 0,
    ) -> None:
        if forces is None:
            if not isinstance(task, str):
                raise ValueError(
                    "forces must be given for a task that is a function: nothing is known of its bodies"
                )
            forces = find_forces(task)
        self.task, self.curriculum, self.seed = task, curriculum, seed
        self.forces, self.episode_steps, self.scales_force = forces, episode_steps, scales_force
        self.settings = {"protagonist": protagonist, "adversary": adversary}
        self.episodes = _checks.require_count("episodes", episodes)
        if episode_steps is not None:
            _checks.require_count("episode_steps", episode_steps)
        self._sides = {
            name: Side(
                task,
                forces,
                adversary=name == "adversary",
                episode_steps=episode_steps,
                scales_force=scales_force,
            )
            for name in self.settings
        }
        # The players' first weights differ although their seeds are derived from one.
        self.protagonist = build_player(self._sides["protagonist"].view, protagonist, seed)
        self.adversary = build_player(self._sides["adversary"].view, adversary, seed + 1_000_003)
        self._sides["adversary"].view.opponent = Frozen(self.protagonist)
        self._sides["protagonist"].view.opponent = Frozen(self.adversary)
        for name, player in (("protagonist", self.protagonist), ("adversary", self.adversary)):
            player.entropy_watch.whose = f" of the {name}"
        self.num_timesteps, self.iterations = 0, 0
        self.tensorboard_log, self.verbose = tensorboard_log, verbose
        self._logger: Logger | None = None
        self.last_return = float("nan")
        self.memories: dict[str, ReplayTables] = {}
        self._warned = False
        self._strongest = 1.0 if scales_force else 0.0

    def set_logger(self, logger: Logger) -> None:
        """Take a logger of Stable-Baselines3; both players record into it, under their names."""
        self._logger = logger
        for name, player in (("protagonist", self.protagonist), ("adversary", self.adversary)):
            player.set_logger(PrefixedLogger(name, logger))

    def learn(
        self,
        total_timesteps: int,
        callback: BaseCallback | None = None,
        progress_bar: bool = False,
        reset_num_timesteps: bool = True,
        on_iteration: Callable[[Self], bool] = lambda _agent: True,
        stop: Callable[[], bool] | None = None,
    ) -> Self:
        """Train for a number of environment steps, those of both players together, rounded up to whole iterations.

        Args:
            total_timesteps: to be done; as in Stable-Baselines3, further ones where the count is not reset.
            callback: called after each of the protagonist's steps, with it as the model; where it returns False,
                the training ends.
            progress_bar: whether to show one.
            reset_num_timesteps: whether the count of steps begins anew.
            on_iteration: called after each iteration, where the training may be saved; False ends it.
            stop: asked after each step; True ends the training, which is then as after its last whole iteration and
                may be saved. In a task whose episodes nothing limits it is asked between iterations only.

        Raises:
            FloatingPointError: an observation, a reward, an action, a loss or a gradient of a player became NaN or
                infinite.
        """
        _checks.require_count("total_timesteps", total_timesteps)
        if reset_num_timesteps:
            self.num_timesteps = 0
        end = self.num_timesteps + total_timesteps
        if self._logger is None:
            name = type(self).__name__
            self.set_logger(configure_logger(self.verbose, self.tensorboard_log, name, reset_num_timesteps))
        with show_progress(end, progress_bar) as show:
            show(self.num_timesteps)
            while self.num_timesteps < end and not (stop and stop()) and self.iterate(callback, stop):
                show(self.num_timesteps)
                self._warn_of_floor(self.num_timesteps / end)
                if not on_iteration(self):
                    break
        return self

    def iterate(self, callback: BaseCallback | None = None, stop: Callable[[], bool] | None = None) -> bool:
        """Take one iteration: adversary, protagonist, curriculum.

        Args:
            callback: as in ``learn``.
            stop: as in ``learn``; an iteration that it ends is taken back.

        Returns:
            Whether it was finished, and the callback has not asked for the end.

        Raises:
            FloatingPointError: as for ``learn``.
        """
        draws, first, second = np.random.SeedSequence([_STREAM, self.seed, self.iterations]).generate_state(3)
        temperatures = [float(t) for t in self.curriculum.draw(self.episodes, np.random.default_rng(draws))]
        sides, longest = self._sides, longest_episode(self._sides["adversary"].view, self.episode_steps)
        before = None if stop is None or longest is None else Moment(self, self.episodes * longest)
        stopping = stop if before is not None and stop is not None else lambda: False
        with _named("adversary"):
            attack = play_phase(self.adversary, sides["adversary"], temperatures, int(first) >> 1, stop=stopping)
        if before is not None and stopping():
            before.take_back()
            return False
        with _named("protagonist"):
            defence = play_phase(
                self.protagonist, sides["protagonist"], temperatures, int(second) >> 1, callback, stopping
            )
        self.num_timesteps += attack.steps + defence.steps
        if len(defence.returns) < self.episodes:
            if before is not None and stopping():
                before.take_back()
            return False
        began = time.perf_counter()
        returns = [-found for found in attack.returns] + defence.returns
        step = self.curriculum.observe(temperatures * 2, returns)
        self.last_return = float(np.mean(returns))
        self.iterations += 1
        assert self._logger is not None
        self._logger.record("curriculum/temperature_mean", self.curriculum.mean)
        self._logger.record("curriculum/temperature_drawn", float(np.mean(temperatures)))
        self._logger.record("time/curriculum_seconds", time.perf_counter() - began)
        self._logger.record("time/iterations", self.iterations)
        record_phases(self._logger, attack, defence, step)
        self._logger.dump(self.num_timesteps)
        return not defence.stopped

    def predict(
        self, observation: NDArray[Any], deterministic: bool = True
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Return the protagonist's actions on the task's own observations, against the strongest adversary.

        Args:
            observation: (D,) or (n, D), without a temperature.
            deterministic: whether to take the mode.
        """
        return self.protagonist.predict(self.at_strongest(observation), deterministic=deterministic)

    def push(self, observation: NDArray[Any], deterministic: bool = True) -> NDArray[Any]:
        """Return the strongest adversary's shares of the force limit on the task's own observation (D,)."""
        return self.adversary.predict(self.at_strongest(observation), deterministic=deterministic)[0]

    def at_strongest(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return observations (..., D) as the players see them, (..., D + 1), with the adversary at its strongest.

        That is temperature 0, a rational adversary; or 1, all of its force, where shares of it are drawn.
        """
        last = np.full((*np.shape(observation)[:-1], 1), self._strongest, dtype=np.asarray(observation).dtype)
        return np.concatenate([observation, last], axis=-1)

    def plain_protagonist(self) -> SAC:
        """Return the protagonist as an ordinary SAC on the task's own observation, to be saved as a zip.

        It acts as ``predict`` does: the temperature's columns of the first layers are left out, which is exact at
        temperature 0, or a part of the biases where the last component is the share of the force.
        """
        settings = self.settings["protagonist"]
        ent_coef = "0" if settings.ent_coef == TEMPERATURE else settings.ent_coef  # what is left out is 0
        plain = build_player(
            make_task(self.task), replace(settings, ent_coef=ent_coef, langevin_noise=0.0), self.seed
        )
        return without_last_components(self.protagonist, plain, self._strongest)

    def save(self, folder: str | Path, *, keep: int = 1) -> None:
        """Write everything that the training goes on from as a checkpoint folder.

        Of the players' memories only what changed since the last save to this folder is written.

        Args:
            folder: of the checkpoint.
            keep: older checkpoints that stay beside it, at least 1.

        Raises:
            OSError: it cannot be written; the checkpoint that was there stays.
        """
        save_players(self, folder, keep=keep)

    @classmethod
    def load(cls, folder: str | Path, task: Task | None = None, curriculum: Curriculum | None = None) -> Self:
        """Return a saved training, which goes on exactly as if it had not been left.

        Args:
            folder: of the checkpoint.
            task: in place of the saved one; needed where it is a function.
            curriculum: needed where it is not one of this library's.

        Raises:
            CheckpointError: the files are damaged.
            UnfitCheckpointError: they hold what does not fit.
            ValueError: a task or a curriculum is needed.
        """
        arguments = read_arguments(folder)
        given = {"task": task, "curriculum": curriculum}
        arguments |= {name: value for name, value in given.items() if value is not None}
        for name in given:
            if arguments[name] is None:
                raise ValueError(f"{name} must be given to load {folder}: the saved one is code")
        agent = cls.__new__(cls)
        TwoPlayers.__init__(agent, **arguments)
        load_players(agent, folder)
        return agent

    def _warn_of_floor(self, progress: float) -> None:
        floor = floor_of(self.curriculum)
        if self._warned or floor is None or progress < _WARN_AFTER:
            return
        self._warned = True
        updates, held_back = self.curriculum.updates, self.curriculum.held_back  # type: ignore[attr-defined]
        if updates and updates == held_back:
            warnings.warn(
                f"the curriculum has not moved in the first quarter of the training: the mean discounted return "
                f"is {self.last_return:.3g} and the floor {floor:.3g}; lower the floor, weaken the forces or train "
                "longer",
                stacklevel=3,
            )


@contextmanager
def _named(player: str) -> Iterator[None]:
    """Name a player where something of it is not finite."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{player}: {error}") from error
