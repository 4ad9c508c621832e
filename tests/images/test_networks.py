from __future__ import annotations

import pytest
import torch
from torch import nn

from entroreg.vision.images.networks import ResNet18, SmallConvNet


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet18_has_the_literatures_size() -> None:
    """He et al. 2016 with the CIFAR stem: 11.17 million parameters for 10 classes."""
    assert _parameters(ResNet18(3, 10)) == 11_173_962


def test_resnet18_halves_the_side_three_times() -> None:
    network = ResNet18(3, 5).eval()
    features = network.stages(network.stem(torch.rand(2, 3, 32, 32)))
    assert features.shape == (2, 512, 4, 4)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (1, 16)])
@pytest.mark.parametrize("normalisation", [True, False])
def test_small_network(channels: int, side: int, normalisation: bool) -> None:
    network = SmallConvNet(channels, side, 10, width=8, normalisation=normalisation).eval()
    assert network(torch.rand(2, channels, side, side)).shape == (2, 10)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == normalisation
    weights = 9 * (8 * channels + 8 * 16 + 16 * 32) + 512 * 10 + 10
    assert _parameters(network) == weights + (2 if normalisation else 1) * (8 + 16 + 32)


def test_images_of_a_batch_do_not_meet_in_evaluation() -> None:
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    network = SmallConvNet(1, 28, 10, width=4).eval()
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(network(images), alone, atol=1e-6)


def test_bad_input() -> None:
    for call, message in (
        (lambda: SmallConvNet(0, 28, 10), r"^channels must be at least 1, got 0$"),
        (lambda: SmallConvNet(1, 28, 10, width=0), r"^width must be at least 1, got 0$"),
        (lambda: SmallConvNet(1, 8, 10), r"^side must be at least 16 pixels, got 8: enlarge the images$"),
        (lambda: ResNet18(3, 0), r"^classes must be at least 1, got 0$"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
