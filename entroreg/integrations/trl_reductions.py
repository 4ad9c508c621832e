"""TRL's ``loss_type`` as reductions: how its losses weigh the tokens of one process. Shapes: B batch, T tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg.policy_gradient import ConstantLength, token_mean
from entroreg.policy_gradient.reductions import Reduction


@dataclass(frozen=True)
class Weighted:
    """A reduction of losses times weights; of one process, since TRL's know no other."""

    reduction: Reduction
    weights: list[Tensor]  # (B, T) or (B, 1)

    def __call__(self, losses: Tensor, mask: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        """Return the scalar loss for losses (B, T) and a mask (B, T)."""
        for weight in self.weights:
            losses = losses * torch.where(mask, weight, 0.0)
        return self.reduction(losses, mask, None)


@dataclass(frozen=True)
class SumOver:
    """The sum over kept tokens, divided by a number of tokens."""

    tokens: Tensor

    def __call__(self, losses: Tensor, mask: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        """Return the scalar loss for losses (B, T) and a mask (B, T)."""
        return torch.where(mask, losses, 0.0).sum() / self.tokens


def mean_of_all_sequences(losses: Tensor, mask: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Return ``sequence_mean``, but with a sequence that keeps nothing counted as one of loss 0, as TRL has it."""
    return (torch.where(mask, losses, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()


def reduction_of(trainer: Any, inputs: Mapping[str, Any]) -> tuple[Reduction, float]:
    """Return how a trainer's ``loss_type`` weighs the tokens of a micro-batch, and the divisor of its loss.

    Args:
        trainer: TRL's.
        inputs: the micro-batch, as ``_compute_loss`` gets it.

    Returns:
        The reduction, and the number of micro-batches over which gradients accumulate where it is a mean of one.
    """
    training = trainer.model.training
    accumulated = trainer.current_gradient_accumulation_steps if training else 1
    if trainer.loss_type == "dapo":  # a mean over the tokens of the generation batch, brought to one optimiser step
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / trainer.accelerator.num_processes
        return SumOver(tokens * accumulated / (trainer.args.steps_per_generation if training else 1)), 1
    reductions: dict[str, Reduction] = {
        "grpo": mean_of_all_sequences,
        "bnpo": token_mean,
        "dr_grpo": ConstantLength(trainer.max_completion_length),
    }
    return reductions[trainer.loss_type], accumulated
