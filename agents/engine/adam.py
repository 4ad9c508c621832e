"""Adam as a pure function, on the state that torch's own optimiser keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CONSTANTS = 6


def adam_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    constants: Tensor,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    r"""Return parameters and moments after one step of Adam.

    $$m' = m + (1-\beta_1)(g - m), \quad v' = \beta_2 v + (1-\beta_2) g^2, \quad
      \theta' = \theta - \eta_t \frac{m'}{\sqrt{v'} / \sqrt{1-\beta_2^t} + \epsilon}$$

    Args:
        parameters: theta, any shapes.
        gradients: g, of the same shapes.
        exp_avgs: m.
        exp_avg_sqs: v.
        constants: (6,) from ``adam_constants``: numbers that change are an input, so a compiled graph sees them.

    Returns:
        New parameters, new m and new v.

    Reference:
        Kingma and Ba (2015), "Adam", arXiv 1412.6980, algorithm 1, in the order of torch.optim.Adam.
    """
    first_share, beta2, second_share, epsilon, step_size, correction = constants.unbind()
    moments = [m + first_share * (g - m) for m, g in zip(exp_avgs, gradients, strict=True)]
    squares = [beta2 * v + second_share * g * g for v, g in zip(exp_avg_sqs, gradients, strict=True)]
    stepped = [
        p - step_size * (m / (v.sqrt() / correction + epsilon))
        for p, m, v in zip(parameters, moments, squares, strict=True)
    ]
    return stepped, moments, squares


def adam_constants(group: dict[str, Any], step: int) -> tuple[float, ...]:
    """Return 1 - beta1, beta2, 1 - beta2, epsilon, the step size and sqrt(1 - beta2^t) for step t, from 1 on."""
    beta1, beta2 = group["betas"]
    step_size = float(group["lr"]) / (1.0 - beta1**step)
    return 1.0 - beta1, beta2, 1.0 - beta2, group["eps"], step_size, math.sqrt(1.0 - beta2**step)


class AdamState:
    """The tensors of a torch Adam with one group: themselves, not copies.

    The state is made where torch would make it at its first step.

    Args:
        optimizer: for which ``why_not_adam`` knows no reason.

    Raises:
        RuntimeError: the moments have another dtype than the parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self.parameters: list[Tensor] = optimizer.param_groups[0]["params"]
        for parameter in self.parameters:
            if not optimizer.state[parameter]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }
        entries = [optimizer.state[parameter] for parameter in self.parameters]
        for parameter, entry in zip(self.parameters, entries, strict=True):
            if entry["exp_avg"].dtype != parameter.dtype:
                raise RuntimeError(
                    f"the optimiser's moments must have the dtype of its parameters, {parameter.dtype}, got "
                    f"{entry['exp_avg'].dtype}: convert both, torch's Adam asks for the same"
                )
        self._held = [
            (entry, entry["step"], entry["exp_avg"], entry["exp_avg_sq"]) for entry in optimizer.state.values()
        ]
        self.exp_avgs: list[Tensor] = [entry["exp_avg"] for entry in entries]
        self.exp_avg_sqs: list[Tensor] = [entry["exp_avg_sq"] for entry in entries]
        # Views as arrays: to count with tensors would take longer than the optimiser's arithmetic.
        self._steps = [entry["step"].numpy() for entry in entries]

    def is_live(self) -> bool:
        """Whether these are still the optimiser's tensors; loading a state replaces them."""
        if self.parameters[0].dtype != self.exp_avgs[0].dtype:
            return False
        entries = self._optimizer.state.values()  # in the order of self._held: to look each up would take longer
        return len(entries) == len(self._held) and all(
            entry is held and entry["step"] is step and entry["exp_avg"] is moment and entry["exp_avg_sq"] is square
            for entry, (held, step, moment, square) in zip(entries, self._held, strict=True)
        )

    def constants(self) -> tuple[float, ...]:
        """Return ``adam_constants`` of the next step."""
        return adam_constants(self._optimizer.param_groups[0], int(self._steps[0]) + 1)

    def count_step(self) -> None:
        """Count one step, for each parameter as torch does."""
        for step in self._steps:
            step += 1.0


def why_not_adam(optimizer: torch.optim.Optimizer) -> str | None:
    """Return why ``adam_step`` is not this optimiser's step, or None if it is."""
    if type(optimizer) is not torch.optim.Adam:
        return f"the optimiser is {type(optimizer).__name__}, not Adam"
    if len(optimizer.param_groups) != 1:
        return "the optimiser has several parameter groups"
    group = optimizer.param_groups[0]
    for option in ("weight_decay", "amsgrad", "maximize", "capturable", "decoupled_weight_decay"):
        if group.get(option):
            return f"the optimiser has {option}={group[option]}"
    if any(isinstance(beta, Tensor) for beta in group["betas"]):
        return "the optimiser's betas are tensors"
    steps = {float(entry["step"]) for entry in optimizer.state.values() if "step" in entry}
    return "the optimiser's parameters have taken different numbers of steps" if len(steps) > 1 else None
