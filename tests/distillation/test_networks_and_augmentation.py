"""The strided network, and random crops and mirror images."""

from __future__ import annotations

import pytest
import torch

from entroreg.vision.distillation.augmentation import crop_and_flip
from entroreg.vision.distillation.networks import StridedConvNet


def test_strided_conv_shapes() -> None:
    network = StridedConvNet(1, 28, 10)
    assert network(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    parameters = 16 * 17 + 32 * (16 * 16 + 1) + 100 * (32 * 49 + 1) + 10 * 101
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 28, 10), "channels must be at least 1, got 0"),
        ((1, 28, 0), "classes must be at least 1, got 0"),
        ((1, 30, 10), "side must be a multiple of 4 pixels, got 30"),
    ],
)
def test_bad_networks(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StridedConvNet(*arguments)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        StridedConvNet(1, 28, 10, width=0)


def test_every_image_is_one_of_the_shifts_and_mirror_images() -> None:
    images = torch.arange(1, 1 + 6 * 2 * 5 * 4, dtype=torch.uint8).view(6, 2, 5, 4)
    found = crop_and_flip(images, torch.Generator().manual_seed(0), padding=1)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    kinds = set()
    for before, after in zip(padded, found, strict=True):
        candidates = {
            (down, right, flipped): window.flip(-1) if flipped else window
            for down in range(3)
            for right in range(3)
            for flipped in (False, True)
            for window in [before[:, down : down + 5, right : right + 4]]
        }
        matches = [kind for kind, candidate in candidates.items() if torch.equal(candidate, after)]
        assert len(matches) == 1
        kinds.add(matches[0])
    assert len(kinds) > 2
    assert {kind[2] for kind in kinds} == {False, True}


def test_augmentation_is_a_function_of_its_stream() -> None:
    images = torch.rand(50, 3, 32, 32)
    once, again = (crop_and_flip(images, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, crop_and_flip(images, torch.Generator().manual_seed(8)))
    assert once.dtype == images.dtype
    with pytest.raises(ValueError, match=r"images must have shape \(B, C, H, W\), got \(3, 32, 32\)"):
        crop_and_flip(images[0], torch.Generator())
    with pytest.raises(ValueError, match="padding must be at least 0, got -1"):
        crop_and_flip(images, torch.Generator(), padding=-1)
