"""Langevin dynamics as an optimiser: it samples weights in place of descending to one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks


class LangevinRMSprop(torch.optim.Optimizer):
    r"""RMSprop with Langevin noise of the same preconditioner.

    $$v \leftarrow \rho v + (1 - \rho) g^2, \quad D = \sqrt{v} + \epsilon, \quad
    \theta \leftarrow \theta - \eta D^{-1} g + \sigma \sqrt{2 \eta}\, D^{-1/2} \xi, \quad \xi \sim N(0, I)$$

    Args:
        parameters: to be moved.
        lr: eta, above 0.
        noise: sigma, at least 0.
        decay: rho, in [0, 0.9999].
        eps: above 0; it limits the noise of weights without gradients.

    Raises:
        TypeError: an argument that is no number.
        ValueError: one out of its range.

    Reference:
        Kamalaruban et al. (2020), "Robust Reinforcement Learning via Adversarial training with Langevin Dynamics",
        arXiv 2002.06063; the preconditioner is that of Li et al. (2016), arXiv 1512.07666.
    """

    def __init__(
        self, parameters: Iterable[Any], lr: float, noise: float = 1e-3, decay: float = 0.99, eps: float = 1e-5
    ) -> None:
        defaults = {
            "lr": _checks.require_positive("lr", lr),
            "noise": _checks.require_number("noise", noise, low=0.0),
            "decay": _checks.require_number("decay", decay, low=0.0, high=0.9999),
            "eps": _checks.require_positive("eps", eps),
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step along the gradients, and a random one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        squares = self.state[parameter].setdefault("square_avg", torch.zeros_like(parameter))
        squares.mul_(group["decay"]).addcmul_(gradient, gradient, value=1.0 - group["decay"])
        divisor = squares.sqrt().add_(group["eps"])
        parameter.addcdiv_(gradient, divisor, value=-group["lr"])
        if group["noise"] > 0.0:
            width = group["noise"] * math.sqrt(2.0 * group["lr"])
            parameter.addcdiv_(torch.randn_like(parameter), divisor.sqrt_(), value=width)
