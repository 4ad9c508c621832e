"""Random crops and mirror images of a batch, on its device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crop_and_flip"]


def crop_and_flip(images: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Return each image shifted by up to ``padding`` pixels, black where it ends, and mirrored with odds 1/2.

    Args:
        images: (B, C, H, W) of any dtype.
        generator: on the images' device.
        padding: pixels, from 0.

    Raises:
        ValueError: images of another rank, or a padding below 0.

    Example:
        >>> crop_and_flip(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 8, 8])
    """
    if images.dim() != 4:
        raise ValueError(f"images must have shape (B, C, H, W), got {tuple(images.shape)}")
    if padding < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
    count, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator, device=device)
    mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
    rows = torch.arange(height, device=device) + down
    columns = torch.arange(width, device=device)
    columns = torch.where(mirrored, columns.flip(0), columns) + right
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    picked = padded[torch.arange(count, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
