"""One player's turn to learn: a number of episodes while the other player is frozen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.utils import set_random_seed

from entroreg.agents.adversarial.players import Side
from entroreg.agents.sac import SAC

_NEVER = 10**12  # steps: the episodes end a phase


@dataclass
class PhaseRecord:
    """What a phase has brought: its episodes, and where the time went."""

    returns: list[float] = field(default_factory=list)
    """Discounted sums of the player's rewards, by episode."""
    steps: int = 0
    """Environment steps."""
    seconds: float = 0.0
    """In all."""
    update_seconds: float = 0.0
    """In updates."""
    stopped: bool = False
    """Whether a callback asked for the end."""


class _Recorder(BaseCallback):
    """Sum discounted rewards and stop after a number of episodes, or when a stop is asked for."""

    def __init__(self, episodes: int, gamma: float, stop: Callable[[], bool]) -> None:
        super().__init__()
        self.record = PhaseRecord()
        self._episodes, self._gamma, self._stop = episodes, gamma, stop
        self._return, self._discount = 0.0, 1.0
        self._update_began: float | None = None

    def _on_rollout_start(self) -> None:
        if self._update_began is not None:
            self.record.update_seconds += time.perf_counter() - self._update_began

    def _on_rollout_end(self) -> None:
        self._update_began = time.perf_counter()

    def _on_step(self) -> bool:
        self._return += self._discount * float(self.locals["rewards"][0])
        self._discount *= self._gamma
        self.record.steps += 1
        if self.locals["dones"][0]:
            self.record.returns.append(self._return)
            self._return, self._discount = 0.0, 1.0
        if len(self.record.returns) < self._episodes:
            return not self._stop()
        # Whoever ends a rollout here loses its last transition, which is how an episode ends: keep it.
        names = ("replay_buffer", "buffer_actions", "new_obs", "rewards", "dones", "infos")
        self.model._store_transition(*(self.locals[name] for name in names))  # type: ignore[attr-defined]
        return False


class _Observed(CallbackList):
    """The recorder and another callback, of which the record says whether it asked for the end."""

    def _on_step(self) -> bool:
        recorder, other = self.callbacks
        assert isinstance(recorder, _Recorder)
        goes_on = recorder.on_step()
        recorder.record.stopped = not other.on_step()
        return goes_on and not recorder.record.stopped


def play_phase(
    player: SAC,
    side: Side,
    temperatures: Sequence[float],
    seed: int,
    callback: BaseCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> PhaseRecord:
    """Let a player learn for one episode at each temperature.

    All that is drawn in a phase follows from its seed, so a training that is taken up again between two phases goes
    on exactly as if it had not been left.

    Args:
        player: who learns.
        side: the player's, with the frozen opponent in its view.
        temperatures: of the episodes.
        seed: of environment, exploration, batches and noise.
        callback: called after each step; False ends the phase early.
        stop: asked after each step; so does True.

    Returns:
        The record; fewer episodes than temperatures if one of them ended it.
    """
    started = time.perf_counter()
    set_random_seed(seed, using_cuda=player.device.type == "cuda")
    player.action_space.seed(seed)
    side.temperatures = iter(temperatures)
    assert player.env is not None
    player.env.seed(seed)
    player._last_obs = None  # begin with a reset
    recorder = _Recorder(len(temperatures), player.gamma, stop)
    callbacks = recorder if callback is None else _Observed([recorder, callback])
    player.learn(_NEVER, callbacks, log_interval=None, reset_num_timesteps=False)
    recorder.record.seconds = time.perf_counter() - started
    return recorder.record
