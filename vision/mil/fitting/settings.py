"""How a model is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from entroreg import _checks

_BALANCES = ("none", "weights", "sampling")


@dataclass(frozen=True)
class FitSettings:
    """The settings of a fit; the defaults are those of AEM's paper.

    A batch is what one forward and backward pass takes; a step is the optimiser's, after ``accumulate`` batches.

    Raises:
        TypeError: a number that is none.
        ValueError: a setting out of range, or two that exclude each other.

    Example:
        >>> FitSettings(instances_per_step=20_000, balance="weights").learning_rate
        0.0001
    """

    epochs: int = 50
    """Passes over the training bags."""
    learning_rate: float = 1e-4
    """Of AdamW at the first step; half a cosine takes it to 0 over all steps, without a warm-up."""
    weight_decay: float = 1e-5
    """Of AdamW."""
    bags_per_step: int | None = None
    """Most bags of a batch; if None 1, or with ``instances_per_step`` no limit."""
    instances_per_step: int | None = None
    """Most instances of a batch; a bag with more is a batch of its own. None sets no limit."""
    accumulate: int = 1
    """Batches whose gradients make one step, the same as one bigger batch."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Of classes: "weights" lets a bag's loss count n / (C n_c), "sampling" draws bags with these odds."""
    instance_share: float = 1.0
    """Share r of a bag's instances in training, int(r N) random ones and at least 1, drawn again each time."""
    sampled_bag_size: int | None = None
    """Instances of every bag in training, drawn again each time, from smaller bags with replacement; None: all."""
    patience: int | None = None
    """Epochs without a better validation score after which the fit ends; None never."""
    amp: bool = False
    """Whether the model runs in bfloat16 autocast; losses and the optimiser stay in float32."""
    seed: int = 0
    """Seed of the order of bags, of the drawn instances and of dropout; not of the model's first weights."""

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate"):
            _require_whole(name, getattr(self, name), 1)
        for name in ("bags_per_step", "instances_per_step", "sampled_bag_size", "patience"):
            if getattr(self, name) is not None:
                _require_whole(name, getattr(self, name), 1)
        _require_whole("seed", self.seed, 0)
        _checks.require_positive("learning_rate", self.learning_rate)
        _checks.require_number("weight_decay", self.weight_decay, low=0.0)
        _checks.require_choice("balance", self.balance, _BALANCES)
        _checks.require_fraction("instance_share", self.instance_share)
        if self.sampled_bag_size is not None and self.instance_share < 1.0:
            raise ValueError(
                "instance_share and sampled_bag_size exclude each other: a bag has a share of its instances or a "
                "fixed number"
            )


def _require_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
