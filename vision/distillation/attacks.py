"""Attacks inside a ball around images: FGSM, PGD on any loss, and the margin loss of Carlini and Wagner.

Letters: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from entroreg import _checks

__all__ = ["Attack", "Noise", "attacked", "fgsm", "frozen", "margin_loss", "pgd"]

Noise = Literal["uniform", "normal", "none"]
_SMALL = 1e-3  # deviation of the normal start: only to leave the point where a KL to itself has no gradient


@dataclass(frozen=True)
class Attack:
    """The settings of PGD in the ball |x' - x| <= eps.

    Raises:
        TypeError: a number that is none.
        ValueError: a setting out of range.

    Example:
        >>> Attack(eps=8 / 255, step=2 / 255).steps
        10
    """

    eps: float
    """Radius in the maximum norm, in [0, 1]; pixels are in [0, 1] too."""
    step: float
    """Length of a step, above 0."""
    steps: int = 10
    """Number of steps."""
    noise: Noise = "normal"
    """Where it starts: uniform in the ball, 1e-3 N(0, 1) beside the image, or at the image (none)."""

    def __post_init__(self) -> None:
        _checks.require_number("eps", self.eps, low=0.0, high=1.0)
        _checks.require_positive("step", self.step)
        _require_steps(self.steps)
        _checks.require_choice("noise", self.noise, get_args(Noise))

    def scaled(self, share: float) -> Attack:
        """Return the attack with radius and step times ``share``, above 0 and at most 1."""
        share = _checks.require_fraction("share", share)
        return Attack(self.eps * share, self.step * share, self.steps, self.noise)


def pgd(
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    eps: float,
    *,
    step: float,
    steps: int,
    noise: Noise = "uniform",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return images in the ball that raise the loss, by projected gradient ascent.

    $$x_{t+1} = \Pi_{|x' - x| \le \epsilon,\, 0 \le x' \le 1}\big(x_t + \eta\,\mathrm{sign} \nabla_x L(x_t)\big)$$

    Args:
        loss: of images, (B,) or a scalar, to be raised; its sum is what is differentiated.
        images: (B, C, H, W) floating in [0, 1].
        eps: radius in the maximum norm, in [0, 1].
        step: length of a step, above 0.
        steps: how many, from 1.
        noise: where it starts; see `Attack`.
        generator: of the noise, on the images' device; torch's own if None.

    Returns:
        The adversarial images, detached, in the ball and in [0, 1].

    Raises:
        TypeError: images that are not floating.
        ValueError: a setting out of range, or a loss without gradient.

    Example:
        >>> images = torch.full((1, 1, 1, 2), 0.5)
        >>> pgd(lambda x: x[..., 0] - x[..., 1], images, 0.1, step=0.04, steps=5, noise="none").flatten()
        tensor([0.6000, 0.4000])

    Reference:
        Madry et al. (2018), arXiv 1706.06083.
    """
    _checks.require_floating("images", images)
    attack = Attack(eps, step, steps, noise)
    low, high = (images - eps).clamp(min=0.0), (images + eps).clamp(max=1.0)
    found = _start(images, attack, generator).clamp(low, high)
    for _ in range(steps):
        with torch.enable_grad():
            found = found.requires_grad_()
            value = loss(found).sum()
            if not value.requires_grad:
                raise ValueError("loss must depend on the images it is given, got one without gradient")
            (gradient,) = torch.autograd.grad(value, found)
        found = (found.detach() + step * gradient.sign()).clamp(low, high)
    return found.detach()


def fgsm(loss: Callable[[Tensor], Tensor], images: Tensor, eps: float) -> Tensor:
    r"""Return images one step of length eps up the loss: x + eps sign(grad L(x)), clipped to [0, 1].

    Args:
        loss: of images, (B,) or a scalar, to be raised.
        images: (B, C, H, W) floating in [0, 1].
        eps: radius in the maximum norm, in [0, 1].

    Raises:
        TypeError: images that are not floating.
        ValueError: eps out of range, or a loss without gradient.

    Example:
        >>> fgsm(lambda x: -x.sum(), torch.full((1, 1, 1, 1), 0.5), 0.1).item() < 0.41
        True

    Reference:
        Goodfellow et al. (2015), arXiv 1412.6572.
    """
    _checks.require_number("eps", eps, low=0.0, high=1.0)
    # A step must be above 0, and with eps = 0 the projection undoes any.
    return pgd(loss, images, eps, step=eps or 1.0, steps=1, noise="none")


def attacked(
    network: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    attack: Attack,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return adversarial images for a network, which is in evaluation mode meanwhile and afterwards as before.

    Args:
        network: images to logits (B, K).
        images: (B, C, H, W) floating in [0, 1].
        loss: of the network's logits, in float32; (B,) or a scalar, to be raised.
        attack: its settings.
        generator: of the start noise, on the images' device.

    Returns:
        The adversarial images, detached.

    Raises:
        TypeError: images that are not floating.
        ValueError: the loss has no gradient with respect to the logits.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> images, labels = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.int64)
        >>> climb = lambda logits: margin_loss(logits, labels)
        >>> found = attacked(network, images, climb, Attack(eps=0.1, step=0.05))
        >>> bool((found - images).abs().max() <= 0.1001), network.training
        (True, True)
    """
    with frozen(network):
        return pgd(
            lambda found: loss(network(found).float()),
            images,
            attack.eps,
            step=attack.step,
            steps=attack.steps,
            noise=attack.noise,
            generator=generator,
        )


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Return how far the best wrong class is above the right one, above 0 where the prediction is wrong.

    $$\max_{k \ne y} z_k - z_y$$

    Args:
        logits: (B, K) floating, K at least 2.
        labels: (B,) int64.

    Returns:
        (B,), which an attack raises.

    Raises:
        TypeError: logits that are not floating.
        ValueError: fewer than two classes, or labels of another shape.

    Example:
        >>> margin_loss(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
        tensor([-1.])

    Reference:
        Carlini and Wagner (2017), arXiv 1608.04644, f_6 without its clamp; climbed by PGD as usual for CW-inf.
    """
    _checks.require_floating("logits", logits, min_dim=2)
    if logits.dim() != 2 or logits.shape[-1] < 2:
        raise ValueError(f"logits must have shape (B, K) with K at least 2, got {tuple(logits.shape)}")
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"labels must have shape {tuple(logits.shape[:1])}, got {tuple(labels.shape)}")
    right = logits.gather(1, labels[:, None]).squeeze(1)
    wrong = logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1)
    return wrong - right


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, its parameters without gradient, inside the block; then as it was."""
    modes = [(module, module.training) for module in network.modules()]
    needed = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval()
    for parameter in needed:
        parameter.requires_grad_(False)  # the attack differentiates by the images only
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in needed:
            parameter.requires_grad_(True)


def _start(images: Tensor, attack: Attack, generator: torch.Generator | None) -> Tensor:
    images = images.detach()
    if attack.noise == "none":
        return images
    noise = torch.empty_like(images)
    if attack.noise == "normal":
        return images + noise.normal_(0.0, _SMALL, generator=generator)
    return images + noise.uniform_(-attack.eps, attack.eps, generator=generator)


def _require_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"steps must be an int, got {type(steps).__name__}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
