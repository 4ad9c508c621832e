from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from entroreg.vision.images.corruptions import CIFAR10_C, CORRUPTIONS, MNIST_C, corrupt


def _images(seed: int = 0, side: int = 28, channels: int = 1) -> Tensor:
    return torch.rand(5, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _corrupted(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    return corrupt(images, name, severity, torch.Generator().manual_seed(seed), MNIST_C)


@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(CORRUPTIONS)), severity=st.integers(1, 5))
def test_images_stay_in_range_and_follow_the_generator(seed: int, name: str, severity: int) -> None:
    images = _images(seed, channels=3)
    for strengths in (MNIST_C, CIFAR10_C):
        found = corrupt(images, name, severity, torch.Generator().manual_seed(seed), strengths)
        assert found.shape == images.shape
        assert float(found.min()) >= 0.0
        assert float(found.max()) <= 1.0
        assert torch.equal(found, corrupt(images, name, severity, torch.Generator().manual_seed(seed), strengths))
        assert not torch.equal(found, images)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_a_higher_severity_changes_more(name: str) -> None:
    smooth = _corrupted(_images(), "gaussian-blur", 2)  # white noise has no detail at one scale
    images = (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())
    changes = [float((_corrupted(images, name, severity) - images).abs().mean()) for severity in range(1, 6)]
    assert changes == sorted(changes)
    assert set(MNIST_C) == set(CIFAR10_C) == set(CORRUPTIONS)


@pytest.mark.parametrize("severity", [1, 3])
def test_the_blur_is_scipys(severity: int) -> None:
    images = _images()
    sigma = MNIST_C["gaussian-blur"][severity - 1]
    expected = [scipy.ndimage.gaussian_filter(image[0], sigma, mode="nearest") for image in images.numpy()]
    assert np.allclose(_corrupted(images, "gaussian-blur", severity)[:, 0].numpy(), expected, atol=1e-12)


def test_noise_has_the_published_moments() -> None:
    grey = torch.full((20, 1, 28, 28), 0.5, dtype=torch.float64)
    count = grey.numel()
    gaussian = _corrupted(grey, "gaussian-noise", 1) - grey
    assert scipy.stats.kstest(gaussian.flatten().numpy() / 0.08, "norm").pvalue > 1e-3
    speckle = _corrupted(grey, "speckle-noise", 1) - grey
    assert scipy.stats.kstest(speckle.flatten().numpy() / (0.5 * 0.15), "norm").pvalue > 1e-3
    shot = _corrupted(grey, "shot-noise", 1) * 60  # photons: Poisson with mean 30
    assert torch.allclose(shot, shot.round(), atol=1e-9)
    assert float(shot.mean()) == pytest.approx(30.0, abs=4 * np.sqrt(30 / count))
    impulse = _corrupted(grey, "impulse-noise", 5)
    for value in (0.0, 1.0):
        hits = int((impulse == value).sum())
        assert scipy.stats.binomtest(hits, count, 0.27 / 2).pvalue > 1e-3
    assert set(impulse.unique().tolist()) == {0.0, 0.5, 1.0}


def test_contrast_brightness_and_pixels_by_hand() -> None:
    images = _images()
    mean = images.numpy().mean(axis=(2, 3), keepdims=True)
    expected = np.clip((images.numpy() - mean) * 0.1 + mean, 0, 1)
    assert np.allclose(_corrupted(images, "contrast", 4).numpy(), expected)
    assert np.allclose(_corrupted(images, "brightness", 2).numpy(), np.clip(images.numpy() + 0.2, 0, 1))
    blocks = _corrupted(images, "pixelate", 2).numpy()  # 28 x 0.5 = 14: blocks of 2 x 2
    means = images.numpy().reshape(5, 1, 14, 2, 14, 2).mean(axis=(3, 5))
    assert np.allclose(blocks, means.repeat(2, axis=2).repeat(2, axis=3))


def test_bad_input() -> None:
    for call, message in (
        (lambda: _corrupted(_images(), "fogg", 1), r"^name must be one of .*, got 'fogg'$"),
        (lambda: _corrupted(_images(), "contrast", 0), r"^severity must be in \[1, 5\], got 0$"),
        (lambda: _corrupted(_images(), "contrast", 1.5), r"^severity must be a whole number from 1 to 5, got 1.5$"),  # type: ignore[arg-type]
        (lambda: _corrupted(_images()[0], "contrast", 1), r"^images must have at least 4 dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^images must be floating, got torch.uint8"):
        _corrupted(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "contrast", 1)
