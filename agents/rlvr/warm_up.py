"""Supervised training of a transformer until it solves part of the problems: what reinforcement starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.utils import get_total_norm

from entroreg import _checks
from entroreg.agents.rlvr.addition import END, Addition
from entroreg.agents.rlvr.evaluation import evaluate
from entroreg.agents.rlvr.sampling import answer_logits, answer_mask
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.guards import require_finite

_BATCH = 256
_LEARNING_RATE = 2e-3
_CHECK_EVERY = 25


class WarmUpFailedError(RuntimeError):
    """The model did not reach the accuracy that was asked for."""


class WarmUp(NamedTuple):
    """How a warm-up ended.

    Attributes:
        steps: batches of 256 problems.
        accuracy: share of sampled answers to held-out problems that are right.
    """

    steps: int
    accuracy: float


class WarmingUp:
    """A warm-up that can be left after any step, saved, and gone on with exactly.

    Args:
        model: trained in place.
        task: that draws problems.
        seed: of the problems.

    Attributes:
        steps: batches done.
        accuracy: that was last measured; 0 before.
    """

    def __init__(self, model: CharTransformer, task: Addition, *, seed: int) -> None:
        self.model, self.task = model, task
        self.steps, self.accuracy = 0, 0.0
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)
        self._optimizer = torch.optim.AdamW(model.parameters(), _LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self) -> None:
        """Train on a batch; every 25 batches measure the accuracy.

        Raises:
            FloatingPointError: the loss or the gradient is NaN or infinite; the weights are those before it.
        """
        problems = self.task.draw(_BATCH, self._generator)
        mask = answer_mask(problems.answers, END)
        logits = answer_logits(self.model, problems.prompts, problems.answers)
        loss = functional.cross_entropy(logits[mask], problems.answers[mask])
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        for name, value in (("loss", loss), ("gradient norm", get_total_norm(gradients))):
            at = f"step {self.steps + 1} of the warm-up"
            require_finite(name, value.detach(), at=at, advice="lower the learning rate")
        self._optimizer.step()
        self.steps += 1
        if self.steps % _CHECK_EVERY == 0:
            found = evaluate(self.model, self.task, seed=self._seed, problems=256, samples=4)
            self.accuracy = found.pass_at[1]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "steps": self.steps,
            "accuracy": self.accuracy,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it: the steps that follow are those that would have followed."""
        _checks.require_keys("state of WarmingUp", state, self.state_dict())
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self.steps, self.accuracy = int(state["steps"]), float(state["accuracy"])


def warm_up(
    training: WarmingUp, *, until: float, most_steps: int = 5_000, after_step: Callable[[], bool] = lambda: True
) -> WarmUp | None:
    """Train a model on right answers until it samples enough of them itself.

    Args:
        training: begun or not; gone on with in place.
        until: accuracy that ends it, in (0, 1).
        most_steps: after which it fails.
        after_step: called after each step; False ends the warm-up.

    Returns:
        How it ended, or None if stopped.

    Raises:
        WarmUpFailedError: the accuracy was not reached.
    """
    while training.accuracy < until:
        if training.steps >= most_steps:
            raise WarmUpFailedError(
                f"the warm-up must reach an accuracy of {until}, got {training.accuracy:.3f} after {most_steps} "
                "steps"
            )
        training.step()
        if not after_step():
            return None
    return WarmUp(training.steps, training.accuracy)
