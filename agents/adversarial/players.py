"""The two players of an adversarial task: both SAC, each on its own view of the task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium import Wrapper
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.agents.adversarial.langevin import LangevinRMSprop
from entroreg.agents.sac import SAC
from entroreg.controllers import FromObservation
from entroreg.envs import ActionShare, AdversaryView, Forces, ObservedTemperature, ProtagonistView, make_task
from entroreg.envs.tasks import Env, Task

TEMPERATURE = "temperature"  # in place of an ent_coef: each episode's own


@dataclass(frozen=True)
class PlayerSettings:
    """How a player learns; the defaults are QARL's, whose actor has a learning rate of 1e-4 for itself."""

    learning_rate: float = 3e-4
    """Of actor, critics and alpha."""
    buffer_size: int = 1_000_000
    """Transitions kept."""
    learning_starts: int = 3_000
    """Environment steps with random actions before the first update."""
    batch_size: int = 256
    """Transitions per update."""
    tau: float = 0.005
    """Share of the new critics in their targets."""
    gamma: float = 0.99
    """Discount, also of the returns that the curriculum sees."""
    train_freq: int = 3
    """Environment steps between updates."""
    gradient_steps: int = 1
    """Updates each time."""
    net: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of actor and critics."""
    ent_coef: str = "auto_0.005"
    """Entropy coefficient of SAC; "temperature" for the temperature of the episode."""
    engine: str = "auto"
    """When the update is compiled: auto, compiled or eager."""
    langevin_noise: float = 0.0
    """Of the actor's steps, which ``LangevinRMSprop`` takes then; 0 for Adam."""
    device: str = "auto"
    """Torch device."""

    def __post_init__(self) -> None:
        for name in ("buffer_size", "batch_size", "train_freq", "gradient_steps"):
            _checks.require_count(name, getattr(self, name))
        if not self.net or min(self.net) < 1:
            raise ValueError(f"net must hold widths of at least 1, got {self.net}")
        _checks.require_number("langevin_noise", self.langevin_noise, low=0.0)


DEFAULT = PlayerSettings()


def sac_arguments(settings: PlayerSettings) -> dict[str, Any]:
    """Return settings as the arguments of ``SAC``; ``langevin_noise`` is none of them."""
    arguments = asdict(settings)
    net, _ = arguments.pop("net"), arguments.pop("langevin_noise")
    if settings.ent_coef == TEMPERATURE:
        arguments["ent_coef"] = FromObservation(-1)
    return {**arguments, "policy_kwargs": {"net_arch": list(net)}}


def build_player(view: Env, settings: PlayerSettings, seed: int) -> SAC:
    """Return a fresh player for a view of a task.

    Raises:
        ValueError: its coefficient is the episode's temperature, which the view does not show.
    """
    if settings.ent_coef == TEMPERATURE and not _shows_temperature(view):
        raise ValueError(f"ent_coef {TEMPERATURE!r} needs a view of the task with ObservedTemperature, got {view}")
    player = SAC("MlpPolicy", view, seed=seed, **sac_arguments(settings))
    if settings.langevin_noise > 0.0:
        player.actor.optimizer = LangevinRMSprop(
            player.actor.parameters(), settings.learning_rate, settings.langevin_noise
        )
    return player


def _shows_temperature(view: Env) -> bool:
    while isinstance(view, Wrapper):
        if isinstance(view, ObservedTemperature):
            return True
        view = view.env
    return False


class Side:
    """One player's view of the task and what belongs to it.

    Args:
        task: of both.
        forces: of the adversary, or the share of the actions that it has.
        adversary: whose side this is.
        episode_steps: control steps after which a training episode is cut, or None for the task's own limit.
        scales_force: whether what is drawn is a share of the force limit, not a temperature.

    Attributes:
        view: the environment.
        temperatures: of the next episodes.
    """

    def __init__(
        self,
        task: Task,
        forces: Forces | ActionShare,
        *,
        adversary: bool,
        episode_steps: int | None,
        scales_force: bool,
    ) -> None:
        base = make_task(task)
        self.pushed = forces.applied_to(base if episode_steps is None else TimeLimit(base, episode_steps))
        self._scales_force = scales_force
        self._temperature = 0.0
        self.temperatures: Iterator[float] = iter(())
        observed = ObservedTemperature(self.pushed, self._next_temperature)
        self.view: ProtagonistView | AdversaryView = (
            AdversaryView(observed) if adversary else ProtagonistView(observed)
        )

    def _next_temperature(self) -> float:
        self._temperature = float(next(self.temperatures, self._temperature))
        if self._scales_force:
            self.pushed.scale = self._temperature
        return self._temperature


class Frozen:
    """A player who acts but does not learn: an opponent.

    Args:
        player: its weights are read when it acts.
        stochastic: whether it samples, as in training.
    """

    def __init__(self, player: SAC, *, stochastic: bool = True) -> None:
        self._player, self._stochastic = player, stochastic

    def __call__(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return the action of the player's own action space."""
        actor = self._player._numpy_actor
        if actor is None:
            return self._player.predict(observation, deterministic=not self._stochastic)[0]
        act = actor.sample if self._stochastic else actor.mode
        found: NDArray[Any] = self._player.policy.unscale_action(act(np.asarray(observation)[None]))[0]
        return found
