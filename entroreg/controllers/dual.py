"""Dual ascent on the entropy coefficient: SAC's automatic temperature, for either direction."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.controllers.target import UNBOUNDED, Target, require_reachable, target_at
from entroreg.schedules import CosineSchedule, LinearSchedule


def log_alpha_loss(log_alpha: Tensor, violation: Tensor) -> Tensor:
    r"""Return the dual loss in log alpha, minimised over log alpha.

    $$J = -\,\mathbb{E}[\log\alpha \cdot \mathrm{sg}(v)], \qquad v = \bar H - H \text{ for a lower bound}$$

    Its step does not shrink with alpha, so it recovers fast from alpha near 0.
    Differs from the paper: log alpha stands in place of alpha, as in softlearning and Stable-Baselines3.

    Args:
        log_alpha: broadcasts with ``violation``.
        violation: (...) floating, how far the constraint is violated, nats; detached here.

    Returns:
        scalar.

    Example:
        >>> log_alpha_loss(torch.tensor([2.0]), torch.tensor([0.5]))
        tensor(-1.)

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, eq. 18.
    """
    return -(log_alpha * violation.detach()).mean()


def alpha_loss(log_alpha: Tensor, violation: Tensor) -> Tensor:
    r"""Return the dual loss in alpha, minimised over log alpha.

    $$J = -\,\mathbb{E}[\alpha \cdot \mathrm{sg}(v)], \qquad v = \bar H - H \text{ for a lower bound}$$

    Args:
        log_alpha: broadcasts with ``violation``.
        violation: (...) floating, how far the constraint is violated, nats; detached here.

    Returns:
        scalar.

    Example:
        >>> alpha_loss(torch.tensor([0.0]), torch.tensor([0.5]))
        tensor(-0.5000)

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, eq. 18.
    """
    return -(log_alpha.exp() * violation.detach()).mean()


_LOSSES = {"alpha": alpha_loss, "log_alpha": log_alpha_loss}
_BOUNDS = ("lower", "upper")


class DualProblem:
    """The constraint that a dual controller holds: target, direction, loss, clamps and update count.

    Args:
        target: target entropy in nats: a number, or a function of the update count.
        bound: "lower" holds entropy above the target, "upper" below it. The coefficient rises when the bound is
            violated, so both directions are stable.
        loss: "log_alpha" (Stable-Baselines3's) or "alpha" (CleanRL's).
        minimum: smallest coefficient, above 0, or None.
        maximum: largest coefficient, or None.

    Raises:
        TypeError: a number that is none.
        ValueError: unknown bound or loss, target not finite, or clamps out of order.
    """

    def __init__(self, target: Target, bound: str, loss: str, minimum: float | None, maximum: float | None) -> None:
        _checks.require_choice("bound", bound, _BOUNDS)
        _checks.require_choice("loss", loss, _LOSSES)
        self.target = target if callable(target) else _checks.require_number("target entropy", target)
        self.bound = bound
        self.loss = loss
        self.minimum = None if minimum is None else _checks.require_positive("minimum", minimum)
        self.maximum = None if maximum is None else _checks.require_positive("maximum", maximum)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum must not exceed maximum, got {minimum} and {maximum}")
        self.log_minimum = -math.inf if self.minimum is None else math.log(self.minimum)
        self.log_maximum = math.inf if self.maximum is None else math.log(self.maximum)
        self.limits = UNBOUNDED
        self.step = 0
        self.current_target()

    def limit_entropy(self, lowest: float, highest: float) -> None:
        """State the range of entropies that any policy can have; ValueError if the target leaves it, now or later.

        A schedule that is code is checked at each update as well, since nobody knows where it leads.
        """
        self.limits = (lowest, highest)
        self.current_target()
        if isinstance(self.target, LinearSchedule | CosineSchedule):  # monotone: its end is its other extreme
            require_reachable(self.target.end, self.bound, lowest, highest)

    def current_target(self) -> float:
        """Return the target of the present update in nats; ValueError when no policy can reach it."""
        target = target_at(self.target, self.step)
        require_reachable(target, self.bound, *self.limits)
        return target

    def violation(self, entropy: Tensor, target: float | Tensor) -> Tensor:
        """Return how far the bound is violated, in nats, detached: positive raises the coefficient.

        Args:
            entropy: any shape, floating.
            target: nats.

        Returns:
            The shape of ``entropy``, float32 or wider.
        """
        measured = entropy.detach().to(torch.promote_types(entropy.dtype, torch.float32))
        return target - measured if self.bound == "lower" else measured - target

    def dual_loss(self, log_alpha: Tensor, violation: Tensor) -> Tensor:
        """Return the dual loss, minimised over log alpha."""
        return _LOSSES[self.loss](log_alpha, violation)


class Dual:
    r"""A learned coefficient that holds entropy at a target by dual ascent on log alpha.

    $$\log\alpha \leftarrow \log\alpha - \eta\, \nabla_{\log\alpha} J, \qquad J = -\mathbb{E}[\log\alpha \cdot v]$$

    ``value`` is read before ``update``: the coefficient in force in an update is the one before its own step.

    Args:
        target: target entropy in nats: a number, or a function of the update count.
        bound: "lower" holds entropy above the target, "upper" below it.
        loss: "log_alpha" (default, recovers fast near 0) or "alpha".
        initial: first coefficient, above 0.
        learning_rate: of the coefficient's own Adam, above 0.
        minimum: smallest coefficient, above 0, or None.
        maximum: largest coefficient, or None.

    Raises:
        TypeError: a number that is none.
        ValueError: unknown bound or loss, target not finite or unreachable, clamps out of order, or initial
            outside them.

    Example:
        >>> alpha = Dual(target=-1.0, learning_rate=0.1)
        >>> _ = alpha.update(entropy=torch.tensor([-2.0]))  # below target: alpha rises
        >>> alpha.value
        tensor(1.1052)

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, section 5.
    """

    def __init__(
        self,
        target: Target,
        *,
        bound: str = "lower",
        loss: str = "log_alpha",
        initial: float = 1.0,
        learning_rate: float = 3e-4,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> None:
        self.problem = DualProblem(target, bound, loss, minimum, maximum)
        self.learning_rate = _checks.require_positive("learning_rate", learning_rate)
        initial = _checks.require_positive("initial", initial)
        _checks.require_number(
            "initial", initial, low=self.problem.minimum or 0.0, high=self.problem.maximum or math.inf
        )
        self.log_alpha = torch.log(torch.ones(1, dtype=torch.float32) * initial).requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.log_alpha], lr=self.learning_rate)

    @property
    def value(self) -> Tensor:
        """The coefficient alpha, scalar float32, detached."""
        return self.log_alpha.detach().exp().reshape(())

    def limit_entropy(self, lowest: float, highest: float) -> None:
        """State the range of entropies that any policy can have; a target outside it is refused, now and later.

        Args:
            lowest: greatest lower bound of the entropy, nats.
            highest: least upper bound of the entropy, nats.

        Raises:
            ValueError: the present target is not inside.
        """
        self.problem.limit_entropy(lowest, highest)

    def update(self, entropy: Tensor) -> dict[str, Tensor]:
        """Take one dual step.

        Args:
            entropy: any shape, floating, nats: analytic or sampled; detached here. Leave masked elements out.

        Returns:
            Detached scalars: ``alpha`` (before the step), ``entropy`` (mean), ``target_entropy``, ``dual_loss``.

        Raises:
            TypeError: entropy not a floating tensor.
            ValueError: a scheduled target that no policy can reach.
        """
        _checks.require_floating("entropy", entropy, min_dim=0)
        target = self.problem.current_target()
        alpha = self.value
        loss = self.problem.dual_loss(self.log_alpha, self.problem.violation(entropy, target))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():  # projected ascent: the clamps are the constraint set of the dual variable
            self.log_alpha.clamp_(self.problem.log_minimum, self.problem.log_maximum)
        self.problem.step += 1
        return {
            "alpha": alpha,
            "entropy": entropy.detach().mean(),
            "target_entropy": torch.tensor(target),
            "dual_loss": loss.detach(),
        }

    def to(self, device: torch.device | str) -> Dual:
        """Move alpha and the moments of its optimiser to a device, in place."""
        self.log_alpha.data = self.log_alpha.data.to(device)
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # casts the moments to alpha's device
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return log alpha, its optimiser's state and the update count."""
        return {
            "log_alpha": self.log_alpha.detach().clone(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),  # torch's refers to the live moments
            "step": self.problem.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state in place: the tensor stays the same object, so references to it hold."""
        _checks.require_keys("state of Dual", state, ("log_alpha", "optimizer", "step"))
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # torch keeps the given moments
        self.problem.step = int(state["step"])
