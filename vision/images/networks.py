"""Two image classifiers: a small convolutional network, and the ResNet-18 of the CIFAR literature."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ResNet18", "SmallConvNet"]


class SmallConvNet(nn.Module):
    """Three 3 x 3 convolutions, the last two with stride 2, an average over 4 x 4 fields and a linear layer.

    Args:
        channels: of the images.
        side: of the images, in pixels, from 16.
        classes: K.
        width: of the first convolution; the others have 2 and 4 times as many channels.
        normalisation: whether a batch normalisation follows each convolution.

    Raises:
        ValueError: a number is below 1, or the side below 16.

    Example:
        >>> SmallConvNet(1, 28, 10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, channels: int, side: int, classes: int, *, width: int = 16, normalisation: bool = True
    ) -> None:
        super().__init__()
        _require_positive(channels=channels, classes=classes, width=width)
        if side < 16:
            raise ValueError(f"side must be at least 16 pixels, got {side}: enlarge the images")
        widths = (channels, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for index, (into, out) in enumerate(pairwise(widths)):
            layers.append(nn.Conv2d(into, out, 3, stride=min(index + 1, 2), padding=1, bias=not normalisation))
            layers.extend([nn.BatchNorm2d(out)] if normalisation else [])
            layers.append(nn.ReLU())
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.classifier = nn.Linear(16 * widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W) between 0 and 1."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class ResNet18(nn.Module):
    """ResNet-18 for small images: a 3 x 3 stem without pooling, four stages of two blocks.

    Args:
        channels: of the images.
        classes: K.

    Raises:
        ValueError: a number is below 1.

    Reference:
        He et al. (2016), "Deep residual learning for image recognition", arXiv 1512.03385.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        _require_positive(channels=channels, classes=classes)
        self.stem = nn.Sequential(_convolution(channels, 64, 3), nn.BatchNorm2d(64), nn.ReLU())
        widths = (64, 64, 128, 256, 512)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(_Block(into, out, 1 if stage == 0 else 2), _Block(out, out, 1))
                for stage, (into, out) in enumerate(pairwise(widths))
            )
        )
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W) between 0 and 1."""
        features: Tensor = self.stages(self.stem(images))
        logits: Tensor = self.classifier(features.mean(dim=(-2, -1)))
        return logits


class _Block(nn.Module):
    """Two convolutions and what came in."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(into, out, 3, stride),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            _convolution(out, out, 3),
            nn.BatchNorm2d(out),
        )
        same = stride == 1 and into == out
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(_convolution(into, out, 1, stride), nn.BatchNorm2d(out))
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.residual(features) + self.shortcut(features))


def _convolution(into: int, out: int, side: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(into, out, side, stride=stride, padding=side // 2, bias=False)


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
