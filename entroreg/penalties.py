"""Penalties: what an entropy costs. Pure functions, per element, minimised.

``linear`` is the bare entropy and takes its direction from ``EntropyRegularizer(sign=...)``; the others say
themselves which entropies they want.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg import _checks


def linear(entropy: Tensor) -> Tensor:
    """Return the entropy itself, the penalty of a constant price per nat.

    Args:
        entropy: (...) floating, nats.

    Returns:
        (...) unchanged.

    Raises:
        TypeError: entropy not a floating tensor.

    Example:
        >>> linear(torch.tensor([0.5]))
        tensor([0.5000])
    """
    _checks.require_floating("entropy", entropy, min_dim=0)
    return entropy


def hinge(entropy: Tensor, floor: float) -> Tensor:
    r"""Return what is missing to a floor, minimised; no cost above it.

    $$\max(0,\ \mathrm{floor} - H)$$

    Args:
        entropy: (...) floating, nats.
        floor: the entropy below which a cost starts, nats.

    Returns:
        (...) at least 0; the gradient at the floor itself is 0.

    Raises:
        TypeError: entropy not a floating tensor or floor not a number.
        ValueError: floor not finite.

    Example:
        >>> hinge(torch.tensor([0.5, 2.0]), floor=1.0)
        tensor([0.5000, 0.0000])
    """
    _checks.require_floating("entropy", entropy, min_dim=0)
    return torch.relu(_checks.require_number("floor", floor) - entropy)


def band(entropy: Tensor, target: float | Tensor, margin: float) -> Tensor:
    r"""Return the squared deviation from a target where it exceeds a margin, minimised.

    $$d^2 \, [\,|d| > \mathrm{margin}\,], \qquad d = H - \mathrm{target}$$

    Args:
        entropy: (...) floating, nats.
        target: number or tensor that broadcasts with ``entropy`` (a learned target gets its gradient), nats.
        margin: half-width of the free band, at least 0, nats.

    Returns:
        (...) at least 0; jumps from 0 to margin^2 at the band's edge, as in the paper.

    Raises:
        TypeError: entropy not a floating tensor or margin not a number.
        ValueError: margin negative or not finite.

    Example:
        >>> band(torch.tensor([1.0, 1.5]), target=1.0, margin=0.2)
        tensor([0.0000, 0.2500])

    Reference:
        Jha and Reagen (2025), "Entropy-guided attention", arXiv 2501.03489.
    """
    _checks.require_floating("entropy", entropy, min_dim=0)
    _checks.require_number("margin", margin, low=0.0)
    deviation = entropy - target
    return torch.where(deviation.abs() > margin, deviation.square(), 0.0)


def squared(entropy: Tensor, target: float | Tensor) -> Tensor:
    r"""Return the squared deviation from a target, minimised.

    $$(H - \mathrm{target})^2$$

    Args:
        entropy: (...) floating, nats.
        target: number or tensor that broadcasts with ``entropy``, nats.

    Returns:
        (...) at least 0.

    Raises:
        TypeError: entropy not a floating tensor.

    Example:
        >>> squared(torch.tensor([0.5]), target=1.0)
        tensor([0.2500])
    """
    _checks.require_floating("entropy", entropy, min_dim=0)
    return (entropy - target).square()
