"""How a student is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from entroreg import _checks
from entroreg.vision.distillation.attacks import Attack
from entroreg.vision.distillation.methods import METHODS

__all__ = ["BalanceSettings", "DistillationSettings", "EntropyBalance", "OptimizerSettings"]

EntropyBalance = Literal["none", "solve", "sign"]
_PAPER_EPOCHS, _PAPER_MILESTONES = 300, (215, 260, 285)


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser; the defaults are those of the papers.

    Raises:
        TypeError: a number that is none.
        ValueError: a setting out of range.

    Example:
        >>> OptimizerSettings().milestones_of(300)
        (215, 260, 285)
    """

    name: Literal["sgd", "adam"] = "sgd"
    """SGD with momentum, or Adam, which a few epochs on small networks need."""
    learning_rate: float = 0.1
    """At the first step."""
    momentum: float = 0.9
    """Of SGD, in [0, 1)."""
    weight_decay: float = 2e-4
    """L2, at least 0."""
    schedule: Literal["milestones", "cosine", "constant"] = "milestones"
    """A tenth after each milestone, half a cosine to 0 over all steps, or neither."""
    milestones: tuple[int, ...] | None = None
    """Epochs after which the rate falls; None: the paper's 215, 260 and 285 of 300, in proportion."""

    def __post_init__(self) -> None:
        _checks.require_choice("name", self.name, ("sgd", "adam"))
        _checks.require_choice("schedule", self.schedule, ("milestones", "cosine", "constant"))
        _checks.require_positive("learning_rate", self.learning_rate)
        _checks.require_number("weight_decay", self.weight_decay, low=0.0)
        if _checks.require_number("momentum", self.momentum, low=0.0) >= 1.0:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        for milestone in self.milestones or ():
            require_whole("milestones", milestone, 1)

    def milestones_of(self, epochs: int) -> tuple[int, ...]:
        """Return the milestones of a training of ``epochs`` epochs."""
        if self.milestones is not None:
            return self.milestones
        return tuple(max(1, round(epochs * milestone / _PAPER_EPOCHS)) for milestone in _PAPER_MILESTONES)


@dataclass(frozen=True)
class BalanceSettings:
    """What balances several teachers; MTARD has the losses, B-MTARD the entropies too.

    Raises:
        TypeError: a number that is none.
        ValueError: a setting out of range.

    Example:
        >>> BalanceSettings().entropy
        'solve'
    """

    entropy: EntropyBalance = "solve"
    """How temperatures make the teachers equally uncertain: none, at once (solve), or by small steps (sign)."""
    entropy_rate: float = 1e-3
    """r of sign; a tenth after each milestone."""
    losses: bool = True
    """Whether weights let the losses fall at one pace."""
    loss_rate: float = 0.025
    """r_w of the weights; a tenth after each milestone."""

    def __post_init__(self) -> None:
        _checks.require_choice("entropy", self.entropy, get_args(EntropyBalance))
        _checks.require_positive("entropy_rate", self.entropy_rate)
        _checks.require_fraction("loss_rate", self.loss_rate)


@dataclass(frozen=True)
class DistillationSettings:
    """One training of a student.

    Raises:
        TypeError: a number that is none.
        ValueError: a setting out of range.

    Example:
        >>> DistillationSettings("rslad", Attack(eps=0.3, step=0.075)).batch
        128
    """

    method: str
    """A name of `METHODS`."""
    attack: Attack
    """The attack inside the training."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """The optimiser."""
    balance: BalanceSettings = BalanceSettings()
    """What balances several teachers."""
    epochs: int = 300
    """Passes over the images."""
    batch: int = 128
    """Images of a step; the last of an epoch may have fewer."""
    warm_up: float = 0.0
    """Share of all steps, in [0, 1), over which eps grows to its full size; 0 for none."""
    crop_and_flip: bool = False
    """Whether images are shifted by up to 4 pixels and mirrored at random, as is usual for CIFAR."""
    amp: bool = False
    """Whether the networks run in bfloat16 autocast."""
    channels_last: bool = False
    """Whether images lie in memory with the channels last: faster on CPUs, and on GPUs with amp."""
    log_every: int | None = None
    """Steps between rows of metrics; an epoch's end has one in any case, and None has no others."""
    seed: int = 0
    """Seed of the order of images, crops and start noise; not of the student's first weights."""

    def __post_init__(self) -> None:
        _checks.require_choice("method", self.method, METHODS)
        for name in ("epochs", "batch"):
            require_whole(name, getattr(self, name), 1)
        if self.log_every is not None:
            require_whole("log_every", self.log_every, 1)
        require_whole("seed", self.seed, 0)
        if not 0.0 <= _checks.require_number("warm_up", self.warm_up) < 1.0:
            raise ValueError(f"warm_up must be in [0, 1), got {self.warm_up}")


def require_whole(name: str, value: int, least: int) -> None:
    """Refuse what is no integer, or below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
