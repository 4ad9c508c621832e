"""Attacks: the ball, closed forms on linear networks, modes that come back, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from entroreg.vision.distillation import Attack, attacked, fgsm, margin_loss, pgd


def _linear(seed: int, pixels: int = 12, classes: int = 4) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 1.0, generator=generator)
    return network


def _images(seed: int, count: int = 5) -> Tensor:
    return torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    eps=st.floats(0.0, 1.0),
    step=st.floats(1e-3, 2.0),
    steps=st.integers(1, 4),
    noise=st.sampled_from(["uniform", "normal", "none"]),
)
def test_what_is_found_is_in_the_ball_and_an_image(
    seed: int, eps: float, step: float, steps: int, noise: str
) -> None:
    images, labels = _images(seed), torch.arange(5) % 4
    network = _linear(seed)
    generator = torch.Generator().manual_seed(seed)
    attack = Attack(eps, step, steps, noise)  # type: ignore[arg-type]
    before = images.clone()
    found = attacked(network, images, lambda z: cross_entropy(z, labels, reduction="none"), attack, generator)
    assert torch.equal(images, before)
    assert not found.requires_grad
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert (found - images).abs().max() <= eps + 1e-6  # rounding of x + eps
    again = attacked(
        network,
        images,
        lambda z: cross_entropy(z, labels, reduction="none"),
        attack,
        torch.Generator().manual_seed(seed),
    )
    assert torch.equal(found, again)


@pytest.mark.parametrize("noise", ["uniform", "normal", "none"])
def test_pgd_reaches_the_corner_of_a_linear_loss(noise: str) -> None:
    images = _images(0)
    direction = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    found = pgd(
        lambda x: (x * direction).sum(dim=(1, 2, 3)),
        images,
        0.2,
        step=0.05,
        steps=9,  # from anywhere in the ball 8 steps suffice
        noise=noise,  # type: ignore[arg-type]
        generator=torch.Generator().manual_seed(2),
    )
    corner = np.clip(images.double().numpy() + 0.2 * np.sign(direction.double().numpy()), 0.0, 1.0)
    np.testing.assert_allclose(found.numpy(), corner, atol=1e-6)


def test_two_classes_and_a_linear_network_have_a_closed_form() -> None:
    network = _linear(3, classes=2)
    images, labels = _images(4), torch.tensor([0, 1, 0, 1, 1])
    found = attacked(
        network, images, lambda z: cross_entropy(z, labels, reduction="none"), Attack(0.1, 0.1, 3, "none")
    )
    weight = network[1].weight.detach()  # type: ignore[index]
    away = torch.where((labels == 0)[:, None], weight[1] - weight[0], weight[0] - weight[1]).view(5, 1, 3, 4)
    torch.testing.assert_close(found, (images + 0.1 * away.sign()).clamp(0.0, 1.0))


def test_fgsm_is_one_signed_step() -> None:
    network, images, labels = _linear(5), _images(6), torch.arange(5) % 4
    found = fgsm(lambda x: cross_entropy(network(x), labels, reduction="sum"), images, 0.03)
    pixels = images.clone().requires_grad_()
    cross_entropy(network(pixels), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None
    torch.testing.assert_close(found, (images + 0.03 * pixels.grad.sign()).clamp(0.0, 1.0))
    assert torch.equal(fgsm(lambda x: x.sum(), images, 0.0), images)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), shift=st.floats(-50, 50))
def test_margin_loss_against_numpy(seed: int, classes: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(7, classes)), rng.integers(classes, size=7)
    expected = [max(np.delete(row, label)) - row[label] for row, label in zip(logits, labels, strict=True)]
    found = margin_loss(torch.tensor(logits + shift), torch.tensor(labels))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    wrong = logits.argmax(axis=1) != labels
    np.testing.assert_array_equal(found.numpy() > 0, wrong)


def test_margin_loss_gradient() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 4, 2, 1])
    assert torch.autograd.gradcheck(lambda z: margin_loss(z, labels), logits)


def test_modes_and_gradients_come_back() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 4))
    network.train()
    network[2].eval()
    network[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seen: list[bool] = []
    network[1].register_forward_hook(lambda module, _inputs, _output: seen.append(module.training))
    labels = torch.zeros(5, dtype=torch.int64)
    attacked(network, _images(0), lambda z: cross_entropy(z, labels), Attack(0.1, 0.05, 2))
    assert seen == [False, False]
    assert [module.training for module in network] == [True, True, False, True, True]
    assert [parameter.requires_grad for parameter in network.parameters()] == [False] + [True] * 5
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_modes_come_back_after_an_error() -> None:
    network = _linear(0).train()

    def fails(_logits: Tensor) -> Tensor:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        attacked(network, _images(0), fails, Attack(0.1, 0.1))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_attacks_work_without_gradient_outside() -> None:
    with torch.no_grad():
        found = fgsm(lambda x: x.sum(), torch.full((1, 1, 1, 1), 0.5), 0.25)
    assert found.item() == 0.75


def test_a_scaled_attack() -> None:
    assert Attack(0.4, 0.1, 7, "none").scaled(0.5) == Attack(0.2, 0.05, 7, "none")
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 0"):
        Attack(0.4, 0.1).scaled(0.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"eps": -0.1}, ValueError, r"eps must be in \[0, 1\], got -0.1"),
        ({"eps": 8.0}, ValueError, r"eps must be in \[0, 1\], got 8.0"),
        ({"eps": math.nan}, ValueError, r"eps must be in \[0, 1\], got nan"),
        ({"eps": "8/255"}, TypeError, "eps must be a number, got str"),
        ({"step": 0.0}, ValueError, "step must be finite and above 0, got 0.0"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 2.0}, TypeError, "steps must be an int, got float"),
        ({"noise": "gauss"}, ValueError, "noise must be one of"),
    ],
)
def test_bad_settings(change: dict[str, object], error: type[Exception], message: str) -> None:
    good: dict[str, object] = {"eps": 0.1, "step": 0.05, "steps": 2, "noise": "none"}
    with pytest.raises(error, match=message):
        Attack(**{**good, **change})  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        pgd(lambda x: x.sum(), torch.zeros(1, 1, 2, 2), **{**good, **change})  # type: ignore[arg-type]


def test_bad_input() -> None:
    images = torch.full((2, 1, 2, 2), 0.5)
    with pytest.raises(TypeError, match=r"images must be floating, got torch.uint8"):
        pgd(lambda x: x.sum(), images.byte(), 0.1, step=0.1, steps=1)
    with pytest.raises(ValueError, match="loss must depend on the images it is given, got one without gradient"):
        pgd(lambda x: x.detach().sum(), images, 0.1, step=0.1, steps=1)
    with pytest.raises(ValueError, match=r"eps must be in \[0, 1\], got 2"):
        fgsm(lambda x: x.sum(), images, 2.0)
    with pytest.raises(TypeError, match="logits must be floating"):
        margin_loss(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"logits must have shape \(B, K\) with K at least 2, got \(2, 1\)"):
        margin_loss(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\), got \(3,\)"):
        margin_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
