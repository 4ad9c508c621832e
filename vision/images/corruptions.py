"""Common corruptions of images, with the published strengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from entroreg import _checks

__all__ = ["CIFAR10_C", "CORRUPTIONS", "MNIST_C", "corrupt"]

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
Strengths = Mapping[str, tuple[float, float, float, float, float]]

# Strengths at severities 1 to 5 for images of 28 pixels: Mu and Gilmer (2019), arXiv 1906.02337.
MNIST_C: Strengths = {
    "gaussian-noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot-noise": (60, 25, 12, 5, 3),
    "impulse-noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "speckle-noise": (0.15, 0.2, 0.35, 0.45, 0.6),
    "gaussian-blur": (1, 2, 3, 4, 6),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
}
# For images of 32 pixels: Hendrycks and Dietterich (2019), arXiv 1903.12261.
CIFAR10_C: Strengths = {
    "gaussian-noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot-noise": (500, 250, 100, 75, 50),
    "impulse-noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle-noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    "gaussian-blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
}


def corrupt(images: Tensor, name: str, severity: int, generator: torch.Generator, strengths: Strengths) -> Tensor:
    """Return corrupted images.

    Args:
        images: (N, C, H, W) floating in [0, 1].
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.
        generator: of the noise, on the images' device.
        strengths: `MNIST_C` or `CIFAR10_C`.

    Returns:
        Of the same shape, in [0, 1].

    Raises:
        TypeError: images not a floating tensor, or severity not a number.
        ValueError: images not of four dimensions, another name, or a severity that is not 1 to 5.

    Example:
        >>> corrupt(torch.tensor([[[[0.0, 1.0]]]]), "contrast", 1, torch.Generator(), MNIST_C)
        tensor([[[[0.3000, 0.7000]]]])

    Reference:
        Hendrycks and Dietterich (2019), arXiv 1903.12261. Differs from the paper: ``brightness`` is added to all
        channels, not to the value of HSV; for one channel that is the same.
    """
    _checks.require_floating("images", images, min_dim=4)
    _checks.require_choice("name", name, CORRUPTIONS)
    if _checks.require_number("severity", severity, low=1, high=5) % 1:
        raise ValueError(f"severity must be a whole number from 1 to 5, got {severity}")
    return CORRUPTIONS[name](images, strengths[name][int(severity) - 1], generator).clamp(0.0, 1.0)


def _noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)


def _gaussian_noise(images: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    return images + scale * _noise(images, generator)


def _shot_noise(images: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    return torch.poisson(images * photons, generator=generator) / photons


def _impulse_noise(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(images.shape, generator=generator, device=images.device)
    return torch.where(uniform < share / 2, 0.0, torch.where(uniform < share, 1.0, images))


def _speckle_noise(images: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    return images * (1.0 + scale * _noise(images, generator))


def _gaussian_blur(images: Tensor, sigma: float, _: torch.Generator) -> Tensor:
    reach = math.ceil(4.0 * sigma)  # as SciPy truncates
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-(offsets**2) / (2.0 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    planes = images.flatten(0, 1).unsqueeze(1)
    for axis_kernel, pad in ((kernel, (0, 0, reach, reach)), (kernel.mT, (reach, reach, 0, 0))):
        planes = functional.conv2d(functional.pad(planes, pad, mode="replicate"), axis_kernel)
    return planes.view_as(images)


def _contrast(images: Tensor, share: float, _: torch.Generator) -> Tensor:
    mean = images.mean(dim=(-2, -1), keepdim=True)
    return (images - mean) * share + mean


def _brightness(images: Tensor, added: float, _: torch.Generator) -> Tensor:
    return images + added


def _pixelate(images: Tensor, share: float, _: torch.Generator) -> Tensor:
    size = [int(side * share) for side in images.shape[-2:]]
    small = functional.interpolate(images, size=size, mode="area")
    return functional.interpolate(small, size=images.shape[-2:], mode="area")


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian-noise": _gaussian_noise,
    "shot-noise": _shot_noise,
    "impulse-noise": _impulse_noise,
    "speckle-noise": _speckle_noise,
    "gaussian-blur": _gaussian_blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": _pixelate,
}
