"""AutoAttack by the package pyautoattack, without its traces in global state."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from entroreg import _checks
from entroreg.vision.distillation.attacks import frozen

__all__ = ["autoattack"]

_TARGETS = 9  # of its targeted attacks, as published
_FEWEST_CLASSES = 4  # below, the DLR loss of its targeted attack is not defined


def autoattack(
    network: nn.Module, images: Tensor, labels: Tensor, eps: float, *, batch: int = 500, seed: int = 0
) -> Tensor:
    """Return images that the standard AutoAttack found: APGD-CE, targeted APGD-DLR and FAB, Square.

    Args:
        network: images to logits (B, K); in evaluation mode meanwhile and afterwards as before.
        images: (N, C, H, W) floating in [0, 1], on the network's device.
        labels: (N,) int64.
        eps: radius in the maximum norm, above 0 and at most 1.
        batch: images at once.
        seed: of its random starts; torch's own streams are as before afterwards.

    Returns:
        (N, C, H, W): an image that is mistaken where one was found, else the image itself.

    Raises:
        ImportError: pyautoattack is not installed.
        TypeError: images that are not floating.
        ValueError: eps out of range, or fewer than 4 classes.

    Reference:
        Croce and Hein (2020), arXiv 2003.01690. Differs from the paper: with fewer than 10 classes the targeted
        attacks have one target for each wrong class.
    """
    _checks.require_floating("images", images, min_dim=4)
    if not 0.0 < _checks.require_number("eps", eps) <= 1.0:
        raise ValueError(f"eps must be in (0, 1], got {eps}")
    attack_class = _attack_class()
    devices = [images.device] if images.is_cuda else []
    trace = sys.gettrace()
    with torch.random.fork_rng(devices), frozen(network):
        with torch.no_grad():
            classes = network(images[:1]).shape[-1]
        if classes < _FEWEST_CLASSES:
            raise ValueError(f"AutoAttack needs at least {_FEWEST_CLASSES} classes, got {classes}: use PGD")
        attack = attack_class(_Plain(network), eps=eps, seed=seed, device=images.device)
        attack.verbose = False
        for targeted in (attack.apgd_targeted, attack.fab):
            targeted.n_target_classes = min(_TARGETS, classes - 1)
        try:
            found, _ = attack.run_standard_evaluation(images.contiguous(), labels, batch_size=batch)
        finally:
            sys.settrace(trace)  # its check of the network takes the tracer away
    result: Tensor = found
    return result


class _ContiguousGradient(torch.autograd.Function):
    """The identity, whose gradient lies in memory as the attacks take it for granted, channels first."""

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
        return grad.contiguous()


class _Plain(nn.Module):
    """A network whose logits are float32, also under autocast, and whose gradients are contiguous."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._network(_ContiguousGradient.apply(images))  # type: ignore[no-untyped-call]
        return logits.float()


def _attack_class() -> Any:
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        raise ImportError(
            "AutoAttack needs pyautoattack, which is not installed: pip install 'entroreg[attacks]'"
        ) from error
    return AutoAttack
