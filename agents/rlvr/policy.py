"""The policy of an rlvr run: which transformer, how it starts, and the rows that its training leaves."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from entroreg.agents.rlvr.addition import CHARACTERS, Addition
from entroreg.agents.rlvr.evaluation import evaluate
from entroreg.agents.rlvr.grpo import GRPO
from entroreg.agents.rlvr.transformer import CharTransformer

PASS_AT = (1, 8)


def new_policy(task: Addition, seed: int) -> CharTransformer:
    """Return a transformer of 0.34 M parameters for a task, with random weights."""
    context = task.prompt_length + task.answer_length - 1
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return CharTransformer(len(CHARACTERS), context, width=96, layers=3, heads=4)


def training_rows(trainer: GRPO, steps: int, *, evaluate_every: int, seed: int) -> Iterator[dict[str, float]]:
    """Train, and yield the metrics of each step; at each evaluation also those on held-out problems, after it.

    Args:
        trainer: that takes the steps.
        steps: rollouts in all; those that the trainer has done count.
        evaluate_every: steps between evaluations; the last step has one.
        seed: of the evaluation's problems.

    Yields:
        What ``GRPO.step`` returns, with ``pass_at_1``, ``pass_at_8`` and ``held_out_entropy`` where evaluated.
    """
    while trainer.steps < steps:
        row = trainer.step()
        if trainer.steps % evaluate_every == 0 or trainer.steps == steps:
            found = evaluate(trainer.model, trainer.task, seed=seed, at=PASS_AT)
            row |= {f"pass_at_{k}": value for k, value in found.pass_at.items()}
            row["held_out_entropy"] = found.entropy
        yield row
