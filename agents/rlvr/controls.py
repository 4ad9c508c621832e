"""The entropy controls that are compared: a policy loss, and the weight of an entropy bonus if there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from entroreg import Controller, Dual, Fixed, _checks
from entroreg.policy_gradient import ClipCov, ControlledClipCov, KLCov, PolicyLoss, PPOClip, Quantiles


class Control(NamedTuple):
    """How the entropy of a policy is controlled.

    Attributes:
        loss: the policy's.
        bonus: owner of the weight of the mean entropy that is subtracted from the loss; None for no bonus.
    """

    loss: PolicyLoss
    bonus: Controller | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what the control has learned."""
        return {name: owner.state_dict() for name, owner in self._owners().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what the control has learned; a part that is missing or not known raises."""
        owners = self._owners()
        _checks.require_keys("state of Control", state, owners)
        for name, owner in owners.items():
            owner.load_state_dict(state[name])

    def _owners(self) -> dict[str, Controller]:
        parts: dict[str, Controller | None] = {"loss": getattr(self.loss, "dual", None), "bonus": self.bonus}
        return {name: part for name, part in parts.items() if part is not None}


@dataclass
class BangBang:
    """The adaptive coefficient of TRL's GRPO: up by a step below the target, down by it above, where it is off.

    Args:
        target: entropy to hold, nats.
        step: by which the coefficient changes at each update.
        maximum: of the coefficient; the minimum is 0.

    Reference:
        He et al. (2025), Skywork-OR1, arXiv 2505.22312, section 4.
    """

    target: float
    step: float = 0.005
    maximum: float = 1.0

    def __post_init__(self) -> None:
        for name in ("target", "step", "maximum"):
            _checks.require_number(name, getattr(self, name), low=0.0)
        self._coefficient = torch.zeros(())
        self._below = torch.zeros((), dtype=torch.bool)

    @property
    def value(self) -> Tensor:
        """The coefficient, scalar float32, detached; 0 while the last entropy was above the target."""
        return torch.where(self._below, self._coefficient, 0.0)

    def update(self, entropy: Tensor) -> dict[str, Tensor]:
        """Take one step by the entropy of this update and return the metrics, with the value before it."""
        metrics = {"alpha": self.value, "entropy": entropy.detach().mean()}
        self._below = metrics["entropy"] <= self.target
        change = torch.where(self._below, self.step, -self.step)
        self._coefficient = (self._coefficient + change).clamp(0.0, self.maximum)
        return metrics

    def to(self, device: torch.device | str) -> BangBang:
        """Move the coefficient to a device."""
        self._coefficient, self._below = self._coefficient.to(device), self._below.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the coefficient and whether it is on."""
        return {"coefficient": self._coefficient.clone(), "below": self._below.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the coefficient."""
        _checks.require_keys("state of BangBang", state, ("coefficient", "below"))
        self._coefficient, self._below = state["coefficient"].clone(), state["below"].clone()


# An update here sees some 600 tokens, not a million: the authors' shares of 2e-4 to 2e-3 would choose one of them.
_FRACTION = 0.05
_BAND = Quantiles(0.9, 1.0)

CONTROLS: dict[str, Callable[[float], Control]] = {
    "none": lambda _target: Control(PPOClip()),
    "entropy-bonus": lambda _target: Control(PPOClip(), Fixed(0.01)),
    "clip-higher": lambda _target: Control(PPOClip(clip=(0.2, 0.28))),
    "adaptive": lambda target: Control(PPOClip(), BangBang(target)),
    "clip-cov": lambda _target: Control(ClipCov(fraction=_FRACTION, band=_BAND)),
    "kl-cov": lambda _target: Control(KLCov(fraction=_FRACTION, beta=1.0)),
    "dual": lambda target: Control(ControlledClipCov(_dual(target, initial=_FRACTION), band=_BAND)),
    "dual-bonus": lambda target: Control(PPOClip(), _dual(target, initial=0.01)),
}
"""By name, a control for an entropy to hold, nats, which those without a target ignore."""


def _dual(target: float, *, initial: float) -> Dual:
    return Dual(target, initial=initial, maximum=1.0, learning_rate=0.05)
