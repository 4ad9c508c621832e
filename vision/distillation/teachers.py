"""Networks that a student is taught by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from entroreg import _checks

__all__ = ["Teacher", "View", "require_teachers"]

View = Literal["clean", "adversarial"]


@dataclass(frozen=True)
class Teacher:
    """A trained network, in evaluation mode, and which images it teaches on.

    Raises:
        TypeError: the network is none.
        ValueError: it is in training mode, or there is no such view.

    Example:
        >>> Teacher(nn.Flatten().eval(), "adversarial").view
        'adversarial'
    """

    network: nn.Module
    """Images (B, C, H, W) to logits (B, K); never trained here."""
    view: View
    """In MTARD: clean images for an accurate teacher, adversarial ones for a robust one."""

    def __post_init__(self) -> None:
        if not isinstance(self.network, nn.Module):
            raise TypeError(f"network must be a torch.nn.Module, got {type(self.network).__name__}")
        _checks.require_choice("view", self.view, get_args(View))
        self.require_evaluating()

    def require_evaluating(self) -> None:
        """Refuse a network with a part in training mode.

        Raises:
            ValueError: there is one.
        """
        training = [name for name, module in self.network.named_modules() if module.training]
        if training:
            raise ValueError(
                f"a teacher must be in evaluation mode, got {training[0] or 'it'!r} in training mode: call .eval()"
            )

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return its logits (B, K) in float32, without gradient."""
        found: Tensor = self.network(images)
        return found.float()


def require_teachers(teachers: Sequence[Teacher], images: Tensor, classes: int) -> None:
    """Refuse teachers whose logits of some images no student can learn from.

    Args:
        teachers: any number.
        images: (B, C, H, W) floating in [0, 1], on the teachers' device.
        classes: K of the student.

    Raises:
        ValueError: a teacher is in training mode, has other classes, or its logits are not finite.
    """
    for index, teacher in enumerate(teachers):
        teacher.require_evaluating()
        logits = teacher.logits(images)
        if logits.shape != (len(images), classes):
            raise ValueError(
                f"teachers must have the student's {classes} classes, got logits of shape {tuple(logits.shape)} "
                f"from teacher {index} for {len(images)} images"
            )
        if not bool(logits.isfinite().all()):
            raise ValueError(f"teachers must have finite logits, teacher {index} does not: train it again")
