"""The small convolutional network of the adversarial training literature on digits."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["StridedConvNet"]

_HIDDEN = 100


class StridedConvNet(nn.Module):
    """Two 4 x 4 convolutions with stride 2, a hidden layer of 100 and a linear layer; no normalisation.

    It keeps all positions up to the hidden layer, and takes a third of the time of `SmallConvNet` of that width.

    Args:
        channels: of the images.
        side: of the images, in pixels, a multiple of 4.
        classes: K.
        width: channels of the first convolution; the second has twice as many.

    Raises:
        ValueError: a number is below 1, or the side no multiple of 4.

    Example:
        >>> import torch
        >>> StridedConvNet(1, 28, 10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Reference:
        Wong and Kolter (2018), arXiv 1711.00851; Wong et al. (2020), "Fast is better than free", arXiv 2001.03994.
    """

    def __init__(self, channels: int, side: int, classes: int, *, width: int = 16) -> None:
        super().__init__()
        for name, number in (("channels", channels), ("classes", classes), ("width", width), ("side", side)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if side % 4:
            raise ValueError(f"side must be a multiple of 4 pixels, got {side}: pad the images")
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * (side // 4) ** 2, _HIDDEN),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(_HIDDEN, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W) between 0 and 1."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
