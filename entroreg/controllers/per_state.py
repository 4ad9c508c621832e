"""A dual variable for each state: log alpha is a function of features."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from entroreg import _checks
from entroreg.controllers.dual import DualProblem
from entroreg.controllers.target import Target


class PerStateDual:
    r"""A learned coefficient alpha(s) that holds the entropy at *each* state at the target.

    $$J = -\mathbb{E}_s[\log\alpha_\phi(s) \cdot v(s)], \qquad \alpha_\phi(s) = \exp f_\phi(s)$$

    The constraint of arXiv 1812.05905 is per state; a scalar alpha holds it on average only.

    Args:
        log_alpha: module from features (B, ...) to log alpha (B,) or (B, 1).
        target: target entropy in nats: a number, or a function of the update count.
        bound: "lower" holds entropy above the target, "upper" below it.
        loss: "log_alpha" or "alpha".
        learning_rate: of the module's own Adam, above 0.
        minimum: smallest coefficient, above 0, or None.
        maximum: largest coefficient, or None.

    Raises:
        TypeError: log_alpha not a module, or a number that is none.
        ValueError: unknown bound or loss, target not finite, clamps out of order, or a module without parameters.

    Example:
        >>> alpha = PerStateDual(nn.Linear(3, 1), target=-1.0)
        >>> alpha.values(torch.zeros(5, 3)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        log_alpha: nn.Module,
        target: Target,
        *,
        bound: str = "lower",
        loss: str = "log_alpha",
        learning_rate: float = 3e-4,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> None:
        if not isinstance(log_alpha, nn.Module):
            raise TypeError(f"log_alpha must be a torch.nn.Module, got {type(log_alpha).__name__}")
        self.problem = DualProblem(target, bound, loss, minimum, maximum)
        self.log_alpha = log_alpha
        self.learning_rate = _checks.require_positive("learning_rate", learning_rate)
        self.optimizer = torch.optim.Adam(log_alpha.parameters(), lr=self.learning_rate)

    def values(self, features: Any) -> Tensor:
        """Return alpha of each state, detached.

        Args:
            features: what the module takes, B rows.

        Returns:
            (B,) float32, between the clamps.

        Raises:
            ValueError: the module returned another shape than (B,) or (B, 1).
        """
        with torch.no_grad():
            return self._clamped(self._log_values(features)).exp()

    def limit_entropy(self, lowest: float, highest: float) -> None:
        """State the range of entropies that any policy can have; a target outside it is refused, now and later."""
        self.problem.limit_entropy(lowest, highest)

    def update(self, entropy: Tensor, features: Any) -> dict[str, Tensor]:
        """Take one dual step on the module.

        Args:
            entropy: (B,) or (B, 1) floating, nats; detached here.
            features: what the module takes, B rows.

        Returns:
            Detached scalars: ``alpha`` (mean, before the step), ``entropy`` (mean), ``target_entropy``,
            ``dual_loss``.

        Raises:
            TypeError: entropy not a floating tensor.
            ValueError: entropy without one value per row, or a scheduled target that no policy can reach.
        """
        _checks.require_floating("entropy", entropy, min_dim=1)
        target = self.problem.current_target()
        log_alpha = self._log_values(features)
        if entropy.numel() != log_alpha.numel():
            raise ValueError(f"entropy must have one value per row, {len(log_alpha)}, got {tuple(entropy.shape)}")
        violation = self.problem.violation(entropy.reshape(-1), target)
        loss = self.problem.dual_loss(self._held_at_clamps(log_alpha, violation), violation)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.problem.step += 1
        return {
            "alpha": self._clamped(log_alpha.detach()).exp().mean(),
            "entropy": entropy.detach().mean(),
            "target_entropy": torch.tensor(target),
            "dual_loss": loss.detach(),
        }

    def to(self, device: torch.device | str) -> PerStateDual:
        """Move the module and the moments of its optimiser to a device, in place."""
        self.log_alpha.to(device)
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # casts the moments to the parameters' device
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the module's state, its optimiser's and the update count."""
        return {
            "log_alpha": copy.deepcopy(self.log_alpha.state_dict()),  # torch's refer to the live tensors
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "step": self.problem.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state in place."""
        _checks.require_keys("state of PerStateDual", state, ("log_alpha", "optimizer", "step"))
        self.log_alpha.load_state_dict(state["log_alpha"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # torch keeps the given moments
        self.problem.step = int(state["step"])

    def _log_values(self, features: Any) -> Tensor:
        output = self.log_alpha(features)
        if not isinstance(output, Tensor) or output.dim() not in (1, 2) or output.numel() != output.shape[0]:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"the log_alpha module must return shape (B,) or (B, 1), got {shape}")
        return output.reshape(-1).to(torch.float32)

    def _clamped(self, log_alpha: Tensor) -> Tensor:
        return log_alpha.clamp(self.problem.log_minimum, self.problem.log_maximum)

    def _held_at_clamps(self, log_alpha: Tensor, violation: Tensor) -> Tensor:
        # A clamp alone has no gradient outside and would never come back: only the outward push is dropped.
        outward = ((log_alpha >= self.problem.log_maximum) & (violation > 0)) | (
            (log_alpha <= self.problem.log_minimum) & (violation < 0)
        )
        return torch.where(outward, log_alpha.detach(), log_alpha)
