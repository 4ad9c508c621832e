"""Supervised training of a transformer until it solves part of the problems: what reinforcement starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional

from entroreg.agents.rlvr.addition import END, Addition
from entroreg.agents.rlvr.evaluation import evaluate
from entroreg.agents.rlvr.sampling import answer_logits, answer_mask
from entroreg.agents.rlvr.transformer import CharTransformer

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


def warm_up(
    model: CharTransformer,
    task: Addition,
    *,
    until: float,
    seed: int,
    most_steps: int = 5_000,
    stop: Callable[[], bool] = lambda: False,
) -> WarmUp | None:
    """Train a model on right answers until it samples enough of them itself.

    Args:
        model: trained in place.
        task: that draws problems.
        until: accuracy that ends it, in (0, 1).
        seed: of the problems.
        most_steps: after which it fails.
        stop: asked at each step.

    Returns:
        How it ended, or None if stopped.

    Raises:
        WarmUpFailedError: the accuracy was not reached.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), _LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    accuracy = 0.0
    for step in range(1, most_steps + 1):
        if stop():
            return None
        problems = task.draw(_BATCH, generator)
        mask = answer_mask(problems.answers, END)
        logits = answer_logits(model, problems.prompts, problems.answers)
        loss = functional.cross_entropy(logits[mask], problems.answers[mask])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % _CHECK_EVERY == 0:
            accuracy = evaluate(model, task, seed=seed, problems=256, samples=4).pass_at[1]
            if accuracy >= until:
                return WarmUp(step, accuracy)
    raise WarmUpFailedError(
        f"the warm-up must reach an accuracy of {until}, got {accuracy:.3f} after {most_steps} steps"
    )
