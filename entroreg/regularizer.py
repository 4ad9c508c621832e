"""The join of a controller and a penalty: entropy in, loss out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from entroreg import _checks, penalties
from entroreg.controllers import Controller, Dual

_DIRECTIONS = {"maximize": -1.0, "minimize": 1.0}
_SIGN_OF_BOUND = {"lower": "maximize", "upper": "minimize"}


class RegularizerOutput(NamedTuple):
    """The result of an entropy regulariser.

    Attributes:
        loss: scalar, to be added to the task's loss; minimised.
        entropy: scalar, mean entropy in nats, detached.
    """

    loss: Tensor
    entropy: Tensor


class EntropyRegularizer:
    r"""Turns entropies into a loss: coefficient times mean penalty.

    $$L = \alpha \cdot \mathrm{mean}(\phi(H)), \qquad \phi(H) = \mp H \text{ for the linear penalty}$$

    Args:
        controller: owner of the coefficient alpha.
        penalty: function from entropies to costs; fix parameters with ``functools.partial``, for example
            ``partial(penalties.hinge, floor=0.5)``.
        sign: "maximize" or "minimize" entropy. Required for the linear penalty and refused for the others,
            which say themselves which entropies they want.

    Raises:
        TypeError: controller or penalty of a wrong kind.
        ValueError: sign missing, unknown, or given where it has no meaning; a dual controller with another
            penalty than the linear one, or with a sign against its bound.

    Example:
        >>> aem = EntropyRegularizer(Fixed(0.1), sign="maximize")
        >>> aem(torch.tensor([1.0, 3.0])).loss
        tensor(-0.2000)
    """

    def __init__(
        self,
        controller: Controller,
        penalty: Callable[[Tensor], Tensor] = penalties.linear,
        sign: str | None = None,
    ) -> None:
        if isinstance(controller, type) or not isinstance(controller, Controller):
            raise TypeError(f"controller must be a Controller such as Fixed(0.1), got {type(controller).__name__}")
        if not callable(penalty):
            raise TypeError(f"penalty must be callable, got {type(penalty).__name__}")
        if penalty is penalties.linear:
            _checks.require_choice("sign", sign or "", _DIRECTIONS)
        elif sign is not None:
            raise ValueError(f"sign must be None for a penalty other than linear, got {sign!r}")
        if isinstance(controller, Dual):
            _check_dual(controller, penalty, sign)
        self.controller = controller
        self.penalty = penalty
        self.sign = sign

    def __call__(self, entropy: Tensor, mask: Tensor | None = None) -> RegularizerOutput:
        """Return the loss and the mean entropy; call ``controller.update`` after the optimiser's step.

        Args:
            entropy: (...) floating, nats, with its graph.
            mask: (...) boolean, True = keep; a mask that keeps nothing gives loss 0.

        Returns:
            The loss, and the mean entropy of the kept elements, detached.

        Raises:
            TypeError: entropy not floating or mask not boolean.
            ValueError: mask of another shape.
        """
        _checks.require_floating("entropy", entropy, min_dim=0)
        _checks.require_mask(mask, "entropy", entropy)
        # A penalty's gradient at NaN is NaN even with weight 0, so masked entropies become 0 before it as well.
        kept = entropy if mask is None else entropy.where(mask, 0.0)
        direction = 1.0 if self.sign is None else _DIRECTIONS[self.sign]
        cost = direction * _masked_mean(self.penalty(kept), mask)
        loss = self.controller.value.to(entropy.device) * cost
        return RegularizerOutput(loss.to(entropy.dtype), _masked_mean(kept.detach(), mask).to(entropy.dtype))


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    wide = values.to(_checks.accumulation_dtype(values))
    if mask is None:
        return wide.sum() / max(wide.numel(), 1)  # an empty batch divides by 1 and gives 0, as an empty mask does
    return wide.where(mask, 0.0).sum() / mask.sum().clamp(min=1)  # an empty mask divides by 1 and gives 0


def _check_dual(controller: Dual, penalty: Callable[[Tensor], Tensor], sign: str | None) -> None:
    if penalty is not penalties.linear:
        raise ValueError("a Dual controller needs the linear penalty: its price is the multiplier of a constraint")
    expected = _SIGN_OF_BOUND[controller.problem.bound]
    if sign != expected:
        raise ValueError(
            f"sign must be {expected!r} for a Dual with bound={controller.problem.bound!r}, got {sign!r}: "
            "otherwise the coefficient pushes entropy away from its target"
        )
