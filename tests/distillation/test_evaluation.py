"""Accuracies under attack: a network whose robust radius is known, and AutoAttack."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from entroreg.vision.distillation import accuracies, accuracy, autoattack, weighted_robust_accuracy
from entroreg.vision.distillation.autoattack import _Plain
from entroreg.vision.images.data import ImageSet

ATTACKS = ("fgsm", "pgd", "pgd-trades", "cw")


class _Brightness(nn.Module):
    """Four classes by the brightness of one pixel each: the brightest pixel wins, so the radius is half a gap."""

    def forward(self, images: Tensor) -> Tensor:
        return 10.0 * images.flatten(1)[:, :4]


def _images(gaps: list[int]) -> ImageSet:
    """Images whose right pixel is brighter than the others by so many steps of 1 / 255."""
    images = torch.full((len(gaps), 1, 2, 2), 100, dtype=torch.uint8)
    labels = torch.arange(len(gaps)) % 4
    images.flatten(1)[torch.arange(len(gaps)), labels] += torch.tensor(gaps, dtype=torch.uint8)
    return ImageSet(images, labels, 4)


@pytest.mark.parametrize("attack", ATTACKS)
def test_accuracy_falls_at_the_radius(attack: Any) -> None:
    images = _images([4, 10, 20, 40, 80, 100])
    network = _Brightness()
    assert accuracy(network, images) == 1.0
    # eps = 11/255 flips gaps below 22
    found = accuracies(network, images, 11 / 255, attacks=(attack,), batch=4)
    assert found == {attack: pytest.approx(3 / 6)}
    assert accuracies(network, images, 0.0, attacks=(attack,)) == {attack: 1.0}


def test_modes_and_determinism() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    images = _images([5, 9, 60, 61, 62, 63])
    once = accuracies(network, images, 0.05, attacks=("pgd", "cw"), seed=1)
    assert once == accuracies(network, images, 0.05, attacks=("pgd", "cw"), seed=1)
    assert network.training
    assert network[2].num_batches_tracked == 0  # nothing was learned


def test_weighted_robust_accuracy() -> None:
    assert weighted_robust_accuracy(0.882, 0.4744) == pytest.approx(0.6782)  # B-MTARD's ResNet-18
    with pytest.raises(ValueError, match=r"clean must be in \[0, 1\], got 88.2"):
        weighted_robust_accuracy(88.2, 0.5)
    with pytest.raises(ValueError, match=r"robust must be in \[0, 1\], got -1"):
        weighted_robust_accuracy(0.5, -1.0)


def test_bad_input() -> None:
    images, network = _images([4, 4]), _Brightness()
    with pytest.raises(ValueError, match=r"eps must be in \[0, 1\], got 8"):
        accuracies(network, images, 8.0)
    with pytest.raises(ValueError, match="attacks must be one of"):
        accuracies(network, images, 0.1, attacks=("pgdd",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        accuracy(network, images, batch=0)
    with pytest.raises(ValueError, match="images must not be empty"):
        accuracy(network, ImageSet(images.images[:0], images.labels[:0], 4))


def test_autoattack_finds_the_radius_and_leaves_no_trace() -> None:
    pytest.importorskip("pyautoattack")
    images = _images([4, 10, 40, 80])
    network = _Brightness().train()
    before, trace = torch.get_rng_state(), sys.gettrace()
    found = accuracies(network, images, 11 / 255, attacks=("autoattack",))
    assert found == {"autoattack": 0.5}
    assert accuracies(network, images, 0.0, attacks=("autoattack",)) == {"autoattack": 1.0}
    assert torch.equal(torch.get_rng_state(), before)
    assert sys.gettrace() is trace
    assert network.training
    pixels = images.images.float() / 255.0
    adversarial = autoattack(network, pixels, images.labels, 11 / 255)
    assert (adversarial - pixels).abs().max() <= 11 / 255 + 1e-6
    assert torch.equal(adversarial[2:], pixels[2:])


def test_autoattack_refuses() -> None:
    pytest.importorskip("pyautoattack")
    pixels, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="AutoAttack needs at least 4 classes, got 2: use PGD"):
        autoattack(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), pixels, labels, 0.1)


def test_autoattack_that_is_missing_and_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"eps must be in \(0, 1\], got 0"):
        autoattack(_Brightness(), pixels, labels, 0.0)
    with pytest.raises(ValueError, match=r"eps must be in \(0, 1\], got 8"):
        autoattack(_Brightness(), pixels, labels, 8.0)
    with pytest.raises(TypeError, match=r"images must be floating, got torch.uint8"):
        autoattack(_Brightness(), pixels.byte(), labels, 0.1)
    imported = builtins.__import__

    def without(name: str, *more: Any, **settings: Any) -> Any:
        if name.startswith("pyautoattack"):
            raise ImportError(name)
        return imported(name, *more, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'entroreg\[attacks\]'"):
        autoattack(_Brightness(), pixels, labels, 0.1)


def test_autoattack_gets_gradients_with_the_channels_first() -> None:
    network = nn.Conv2d(3, 4, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 8, 8).requires_grad_()
    for wrapped, contiguous in ((network, False), (_Plain(network), True)):
        (gradient,) = torch.autograd.grad((wrapped(images) ** 2).sum(), images)
        assert gradient.is_contiguous() == contiguous
