"""What changes over a training, as functions of the step."""

from __future__ import annotations

import math

from entroreg.vision.distillation.settings import DistillationSettings

__all__ = ["attack_share", "learning_rate", "milestone_factor"]


def milestone_factor(settings: DistillationSettings, epoch: int) -> float:
    """Return 0.1 to the number of milestones that were passed; 1 for other schedules.

    Args:
        settings: of the training.
        epoch: from 0.

    Example:
        >>> from entroreg.vision.distillation.attacks import Attack
        >>> milestone_factor(DistillationSettings("plain", Attack(0.1, 0.1)), 215)
        0.1
    """
    if settings.optimizer.schedule != "milestones":
        return 1.0
    return float(0.1 ** sum(epoch >= milestone for milestone in settings.optimizer.milestones_of(settings.epochs)))


def learning_rate(settings: DistillationSettings, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    Args:
        settings: of the training.
        step: from 0.
        steps_per_epoch: of the training.
    """
    initial = settings.optimizer.learning_rate
    if settings.optimizer.schedule == "cosine":
        return initial * 0.5 * (1.0 + math.cos(math.pi * step / (settings.epochs * steps_per_epoch)))
    return initial * milestone_factor(settings, step // steps_per_epoch)


def attack_share(settings: DistillationSettings, step: int, steps_per_epoch: int) -> float:
    """Return the share of eps that a step attacks with, in (0, 1]: a line from 0 to 1 over the warm-up.

    Args:
        settings: of the training.
        step: from 0.
        steps_per_epoch: of the training.
    """
    warm_up = settings.warm_up * settings.epochs * steps_per_epoch
    return min(1.0, (step + 1) / warm_up) if warm_up else 1.0
