"""A gradient step of the eager update, and whether its gradient was finite."""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg.agents.engine.player import total_of


def optimizer_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Take one gradient step on a loss.

    Args:
        optimizer: of the parameters to move.
        loss: scalar, with its graph.

    Returns:
        A scalar that is NaN or infinite where the gradient is, and says no more.
    """
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return total_of(gradients) if gradients else torch.zeros_like(loss.detach())
