"""Acting beside a GPU without waiting for it: host copies of the actor's parameters, one update behind.

No machine with a GPU has run this module yet; the tests marked ``gpu`` wait for a device.
"""

from __future__ import annotations

import torch
from stable_baselines3.sac.policies import Actor

from entroreg.agents.numpy_actor import NumpyActor


class ActorMirror:
    """Two host copies of an actor, written in turn; the one before the last is read.

    To read the last copy would mean to wait for the update that it follows. The one before was made an environment
    step ago, so the event that guards it has passed.

    Args:
        actor: on a GPU, for which ``can_run`` holds.
    """

    def __init__(self, actor: Actor) -> None:
        self._parameters = NumpyActor.parameters_of(actor)
        self._copies = [[torch.empty_like(p, device="cpu").pin_memory() for p in self._parameters] for _ in (0, 1)]
        self._events = [torch.cuda.Event() for _ in (0, 1)]  # type: ignore[no-untyped-call]
        self._actors = [NumpyActor(actor, copies) for copies in self._copies]
        self._next = 0
        self.push_now()

    @torch.no_grad()
    def push(self) -> None:
        """Send the present parameters to the host, without waiting."""
        for copy, parameter in zip(self._copies[self._next], self._parameters, strict=True):
            copy.copy_(parameter, non_blocking=True)
        self._events[self._next].record()
        self._next = 1 - self._next

    def push_now(self) -> None:
        """Bring both copies up to date, as after a load."""
        self.push()
        self.push()

    def actor(self) -> NumpyActor:
        """Return the actor with the parameters of the update before the last."""
        self._events[self._next].synchronize()
        return self._actors[self._next]
