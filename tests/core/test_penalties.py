from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from entroreg import penalties

ENTROPIES = st.lists(st.floats(-5.0, 5.0), min_size=0, max_size=6)
NUMBERS = st.floats(-3.0, 3.0)
PENALTIES = {
    "linear": penalties.linear,
    "hinge": lambda h: penalties.hinge(h, floor=0.4),
    "band": lambda h: penalties.band(h, target=0.1, margin=0.3),
    "squared": lambda h: penalties.squared(h, target=0.2),
}
every = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)


@given(entropies=ENTROPIES, target=NUMBERS, margin=st.floats(0.0, 2.0))
def test_values_against_loops(entropies: list[float], target: float, margin: float) -> None:
    tensor = torch.tensor(entropies, dtype=torch.float64)
    assert penalties.linear(tensor).tolist() == entropies
    assert penalties.hinge(tensor, target).tolist() == [target - h if h < target else 0.0 for h in entropies]
    squares = [(h - target) ** 2 for h in entropies]
    assert penalties.squared(tensor, target).tolist() == pytest.approx(squares)
    expected = [s if abs(h - target) > margin else 0.0 for h, s in zip(entropies, squares, strict=True)]
    assert penalties.band(tensor, target, margin).tolist() == pytest.approx(expected)


@every
def test_gradients_away_from_the_kinks(penalty: object) -> None:
    entropy = torch.tensor([[-0.7, 0.05, 0.35], [0.5, 1.5, 3.0]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(penalty, (entropy,))
    assert gradgradcheck(penalty, (entropy,))


@every
def test_shape_and_dtype_are_kept_and_elements_are_independent(penalty: object) -> None:
    entropy = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        cost = penalty(entropy.to(dtype))  # type: ignore[operator]
        assert cost.dtype == dtype
        exact = penalty(entropy.to(dtype).double())  # type: ignore[operator]
        torch.testing.assert_close(
            cost.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps
        )
    looped = torch.stack([torch.stack([penalty(h) for h in row]) for row in entropy])  # type: ignore[operator]
    assert torch.equal(penalty(entropy), looped)  # type: ignore[operator]
    assert penalty(torch.empty(0)).shape == (0,)  # type: ignore[operator]


def _gradient(cost: Tensor, leaf: Tensor) -> list[float]:
    (gradient,) = torch.autograd.grad(cost.sum(), leaf)
    return [float(x) for x in gradient]


def test_at_the_edges() -> None:
    leaf = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    assert _gradient(penalties.hinge(leaf, 1.0), leaf) == [-1.0, 0.0, 0.0]
    assert penalties.band(leaf, 1.0, 0.5).tolist() == [0.0, 0.0, 0.0]  # the edge itself is free
    assert _gradient(penalties.band(leaf, 1.0, 0.25), leaf) == [-1.0, 0.0, 1.0]
    assert penalties.band(leaf, 1.0, 0.0).tolist() == penalties.squared(leaf, 1.0).tolist() == [0.25, 0.0, 0.25]


@pytest.mark.parametrize("penalty", [penalties.squared, lambda h, t: penalties.band(h, t, 0.1)])
def test_a_learned_target_broadcasts_and_gets_its_gradient(penalty: object) -> None:
    entropy = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    target = torch.tensor([0.5, 1.0], requires_grad=True)
    cost = penalty(entropy, target)  # type: ignore[operator]
    assert cost.tolist() == [[0.25, 1.0], [6.25, 9.0]]
    assert _gradient(cost, target) == [-6.0, -8.0]


@every
def test_extreme_entropies_stay_finite(penalty: object) -> None:
    leaf = torch.tensor([-1e4, 0.0, 1e4], dtype=torch.float64, requires_grad=True)
    cost = penalty(leaf)  # type: ignore[operator]
    assert torch.isfinite(cost).all()
    assert all(math.isfinite(x) for x in _gradient(cost, leaf))


@every
def test_a_wrong_kind_of_entropy_raises(penalty: object) -> None:
    with pytest.raises(TypeError, match=r"^entropy must be a torch.Tensor, got float$"):
        penalty(0.5)  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"^entropy must be floating, got torch.int64: convert with entropy.float"):
        penalty(torch.tensor([1]))  # type: ignore[operator]


def test_raises() -> None:
    entropy = torch.zeros(2)
    with pytest.raises(TypeError, match=r"^floor must be a number, got Tensor$"):
        penalties.hinge(entropy, torch.tensor(1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^floor must be finite, got nan$"):
        penalties.hinge(entropy, math.nan)
    with pytest.raises(TypeError, match=r"^margin must be a number, got str$"):
        penalties.band(entropy, 0.0, "1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^margin must be finite and at least 0, got -0.1$"):
        penalties.band(entropy, 0.0, -0.1)
    with pytest.raises(ValueError, match=r"^margin must be finite and at least 0, got inf$"):
        penalties.band(entropy, 0.0, math.inf)
