"""How often a network is right: on the images themselves, and on what attacks make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from entroreg import _checks
from entroreg.vision.distillation.attacks import Attack, attacked, frozen, margin_loss
from entroreg.vision.distillation.autoattack import autoattack
from entroreg.vision.images.data import ImageSet, as_float

__all__ = ["AttackName", "accuracies", "accuracy", "weighted_robust_accuracy"]

AttackName = Literal["fgsm", "pgd", "pgd-trades", "cw", "autoattack"]


def accuracy(network: nn.Module, images: ImageSet, *, batch: int = 500) -> float:
    """Return the share of images that a network in evaluation mode gets right.

    Args:
        network: images in [0, 1] to logits; its mode is as before afterwards.
        images: bytes, on any device.
        batch: images at once.

    Raises:
        ValueError: no images, or a batch below 1.
    """
    return _accuracy(network, images, batch, lambda pixels, _labels, _number: pixels)


def accuracies(
    network: nn.Module,
    images: ImageSet,
    eps: float,
    *,
    attacks: Sequence[AttackName] = ("fgsm", "pgd", "cw"),
    batch: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """Return the accuracies on attacked images by the name of the attack.

    ``fgsm`` has one step; ``pgd`` 20 steps of eps / 4 from a uniform start, on cross-entropy (SAT's test);
    ``pgd-trades`` 20 steps of eps / 10 from a start beside the image (TRADES's); ``cw`` 30 steps of eps / 10 on
    `margin_loss`; ``autoattack`` the standard ensemble.

    Args:
        network: images in [0, 1] to logits; its mode is as before afterwards.
        images: bytes, on any device.
        eps: radius in the maximum norm, in [0, 1].
        attacks: which.
        batch: images at once.
        seed: of the attacks' starts.

    Returns:
        Shares of images that are still right, in [0, 1].

    Raises:
        ImportError: autoattack without pyautoattack.
        ValueError: eps out of range, an unknown attack, no images, or a batch below 1.

    Reference:
        Zhao et al. (2023), arXiv 2306.16170. Differs from the paper: TRADES's step, 0.003 at 8/255, is eps / 10.
    """
    eps = _checks.require_number("eps", eps, low=0.0, high=1.0)
    for name in attacks:
        _checks.require_choice("attacks", name, get_args(AttackName))
    return {name: _accuracy(network, images, batch, _attacker(network, name, eps, batch, seed)) for name in attacks}


def weighted_robust_accuracy(clean: float, robust: float) -> float:
    """Return the mean of a clean and a robust accuracy, the one number that B-MTARD compares by.

    Args:
        clean: in [0, 1].
        robust: in [0, 1].

    Raises:
        ValueError: a number out of range.

    Example:
        >>> weighted_robust_accuracy(0.9, 0.5)
        0.7
    """
    both = [
        _checks.require_number(name, value, low=0.0, high=1.0)
        for name, value in (("clean", clean), ("robust", robust))
    ]
    return sum(both) / 2


Attacker = Callable[[Tensor, Tensor, int], Tensor]


def _attacker(network: nn.Module, name: AttackName, eps: float, batch: int, seed: int) -> Attacker:
    """Return a function of pixels, labels and the batch's number."""
    step = eps or 1.0  # eps = 0 leaves the images alone with any step

    def by_autoattack(pixels: Tensor, labels: Tensor, _number: int) -> Tensor:
        return autoattack(network, pixels, labels, eps, batch=batch, seed=seed) if eps else pixels

    if name == "autoattack":
        return by_autoattack
    attack = {
        "fgsm": Attack(eps, step, 1, "none"),
        "pgd": Attack(eps, step / 4, 20, "uniform"),
        "pgd-trades": Attack(eps, step / 10, 20, "normal"),
        "cw": Attack(eps, step / 10, 30, "uniform"),
    }[name]

    def by_gradient(pixels: Tensor, labels: Tensor, number: int) -> Tensor:
        def loss(logits: Tensor) -> Tensor:
            return margin_loss(logits, labels) if name == "cw" else cross_entropy(logits, labels, reduction="none")

        generator = torch.Generator(pixels.device).manual_seed(seed + number)
        return attacked(network, pixels, loss, attack, generator)

    return by_gradient


def _accuracy(network: nn.Module, images: ImageSet, batch: int, attacker: Attacker) -> float:
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if not len(images.labels):
        raise ValueError("images must not be empty: an accuracy needs some")
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    parts = zip(images.images.split(batch), images.labels.split(batch), strict=True)  # type: ignore[no-untyped-call]
    for number, (pixels, labels) in enumerate(parts):
        found = attacker(as_float(pixels), labels, number)
        with torch.no_grad(), frozen(network):
            right += (network(found).argmax(dim=1) == labels).sum()
    return int(right) / len(images.labels)
