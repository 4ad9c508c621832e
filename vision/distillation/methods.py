"""The methods: what a step of each attacks, and the losses it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import cross_entropy

from entroreg.vision.distillation.objectives import (
    ard_loss,
    divergence,
    mtard_losses,
    rslad_loss,
    trades_loss,
)
from entroreg.vision.distillation.teachers import Teacher

__all__ = ["METHODS", "Method", "Step"]


@dataclass(frozen=True)
class Step:
    """What a method has to work with in one step."""

    student: Callable[[Tensor], Tensor]
    """Images to logits (B, K), in training mode."""
    attack: Callable[[Callable[[Tensor], Tensor]], Tensor]
    """Takes a loss of logits and returns images that raise it for the student in evaluation mode."""
    predict: Callable[[Tensor], Tensor]
    """Images to logits of the student in evaluation mode, without gradient."""
    images: Tensor
    """(B, C, H, W) floating in [0, 1]."""
    labels: Tensor
    """(B,) int64."""
    teachers: Sequence[Teacher]
    """Those of the method."""
    temperatures: Callable[[Sequence[Tensor]], Tensor]
    """Takes the teachers' logits and returns a temperature for each."""


class Method(NamedTuple):
    """A method.

    Attributes:
        losses: of a step, one or one for each teacher.
        teachers: how many it takes.
        name: its long name.
    """

    losses: Callable[[Step], list[Tensor]]
    teachers: Literal["none", "one", "several"]
    name: str


def _plain(step: Step) -> list[Tensor]:
    return [cross_entropy(step.student(step.images), step.labels)]


def _adversarial(step: Step) -> list[Tensor]:
    adversarial = step.attack(lambda logits: cross_entropy(logits, step.labels, reduction="none"))
    return [cross_entropy(step.student(adversarial), step.labels)]


def _trades(step: Step) -> list[Tensor]:
    before = step.predict(step.images)
    adversarial = step.attack(lambda logits: divergence(logits, before))
    return [trades_loss(step.student(step.images), step.student(adversarial), step.labels)]


def _ard(step: Step) -> list[Tensor]:
    adversarial = step.attack(lambda logits: cross_entropy(logits, step.labels, reduction="none"))
    taught = step.teachers[0].logits(step.images)
    return [ard_loss(step.student(step.images), step.student(adversarial), taught, step.labels)]


def _rslad(step: Step) -> list[Tensor]:
    taught = step.teachers[0].logits(step.images)
    adversarial = step.attack(lambda logits: divergence(logits, taught))
    return [rslad_loss(step.student(step.images), step.student(adversarial), taught)]


def _mtard(step: Step) -> list[Tensor]:
    adversarial = step.attack(lambda logits: cross_entropy(logits, step.labels, reduction="none"))
    views = {"adversarial": adversarial, "clean": step.images}
    # Only what is compared with a teacher: each pass also moves the statistics of batch normalisations.
    used = [view for view in views if any(teacher.view == view for teacher in step.teachers)]
    answers = {view: step.student(views[view]) for view in used}
    taught = [teacher.logits(views[teacher.view]) for teacher in step.teachers]
    return mtard_losses([answers[teacher.view] for teacher in step.teachers], taught, step.temperatures(taught))


METHODS = {
    "plain": Method(_plain, "none", "cross-entropy on the images themselves"),
    "adversarial": Method(_adversarial, "none", "adversarial training of Madry et al. (2018)"),
    "trades": Method(_trades, "none", "TRADES of Zhang et al. (2019)"),
    "ard": Method(_ard, "one", "adversarially robust distillation of Goldblum et al. (2020)"),
    "rslad": Method(_rslad, "one", "robust soft-label distillation of Zi et al. (2021)"),
    "mtard": Method(_mtard, "several", "multi-teacher distillation of Zhao et al. (2022, 2023)"),
}
