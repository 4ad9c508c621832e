from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from entroreg.measures import (
    gaussian_entropy,
    max_tanh_entropy,
    pathwise_entropy,
    tanh_gaussian_entropy_bound,
)

LOG_STDS = st.lists(st.floats(-8.0, 4.0), min_size=0, max_size=6).map(
    lambda x: torch.tensor(x, dtype=torch.float64)
)
FUNCTIONS = {
    "gaussian": gaussian_entropy,
    "tanh bound": tanh_gaussian_entropy_bound,
    "pathwise": pathwise_entropy,
}


def _entropies(log_std: Tensor) -> list[float]:
    return [float(scipy.stats.norm(scale=math.exp(x)).entropy()) for x in log_std.tolist()]


@given(log_std=LOG_STDS)
def test_entropies_against_scipy(log_std: Tensor) -> None:
    entropies = _entropies(log_std)
    assert float(gaussian_entropy(log_std)) == pytest.approx(math.fsum(entropies), abs=1e-10)
    bound = float(tanh_gaussian_entropy_bound(log_std))
    assert bound == pytest.approx(math.fsum(min(h, math.log(2.0)) for h in entropies), abs=1e-10)
    if len(log_std):
        assert bound <= max_tanh_entropy(len(log_std)) + 1e-12
    assert float(gaussian_entropy(log_std.flip(0))) == pytest.approx(math.fsum(entropies), abs=1e-10)
    assert pathwise_entropy(log_std).tolist() == [-x for x in log_std.tolist()]


@pytest.mark.parametrize("log_std", [-3.0, -1.0, -0.5, 0.0, 1.0])
@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_the_tanh_bound_is_above_the_true_entropy(log_std: float, mean: float) -> None:
    normal = scipy.stats.norm(mean, math.exp(log_std))

    def integrand(u: float) -> float:  # H(tanh u) = H(u) + E log(1 - tanh^2 u)
        return float(normal.pdf(u)) * 2.0 * (math.log(2.0) - np.logaddexp(u, -u))

    spread = 10.0 * math.exp(log_std)
    correction, _ = scipy.integrate.quad(integrand, mean - spread, mean + spread)
    truth = float(normal.entropy()) + correction
    bound = float(tanh_gaussian_entropy_bound(torch.tensor([log_std], dtype=torch.float64)))
    assert truth <= bound + 1e-9
    if log_std == -3.0 and mean == 0.0:
        assert truth == pytest.approx(bound, abs=0.01)


def test_batches_are_loops() -> None:
    log_std = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for function in (gaussian_entropy, tanh_gaussian_entropy_bound):
        looped = torch.stack([torch.stack([function(row) for row in block]) for block in log_std])
        torch.testing.assert_close(function(log_std), looped)
        assert torch.equal(function(torch.zeros(3, 0)), torch.zeros(3))
        assert function(torch.zeros(0, 3)).shape == (0,)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_gradients(function: object) -> None:
    log_std = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_(
        True
    )
    assert gradcheck(function, (log_std,))
    assert gradgradcheck(function, (log_std,))


def test_the_bound_does_not_push_a_dimension_beyond_it() -> None:
    log_std = torch.tensor([2.0, -2.0], requires_grad=True)
    tanh_gaussian_entropy_bound(log_std).backward()
    assert log_std.grad.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", [gaussian_entropy, tanh_gaussian_entropy_bound])
def test_many_dimensions_are_summed_in_float32(function: object, dtype: torch.dtype) -> None:
    log_std = (0.3 * torch.randn(10_000, generator=torch.Generator().manual_seed(2)) - 1.0).to(dtype)
    value, exact = function(log_std), function(log_std.double())  # type: ignore[operator]
    assert value.dtype == dtype
    assert float(value) == pytest.approx(float(exact), rel=torch.finfo(dtype).eps)


def test_the_gradient_of_a_reparameterised_sample_is_the_entropys() -> None:
    log_std = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    noise = torch.randn(1000, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    action = log_std.exp() * noise
    log_probs = torch.distributions.Normal(0.0, log_std.exp()).log_prob(action).sum(-1)
    pathwise_entropy(log_probs).mean().backward()
    assert log_std.grad.item() == pytest.approx(1.0)  # dH / d log_std = 1
    log_std.grad = None
    drawn = torch.distributions.Normal(0.0, log_std.exp()).log_prob(action.detach()).sum(-1)
    pathwise_entropy(drawn).mean().backward()
    assert abs(log_std.grad.item()) < 0.15  # the trap that the docstring names: about 0


def test_max_tanh_entropy() -> None:
    assert max_tanh_entropy(3) == pytest.approx(float(3 * scipy.stats.uniform(-1, 2).entropy()))
    with pytest.raises(ValueError, match=r"^dimensions must be finite and at least 1, got 0$"):
        max_tanh_entropy(0)


def test_raises() -> None:
    for name, function in (("log_std", gaussian_entropy), ("log_std", tanh_gaussian_entropy_bound)):
        with pytest.raises(
            TypeError, match=rf"^{name} must be floating, got torch.int64: convert with {name}.float"
        ):
            function(torch.zeros(2, dtype=torch.long))
        with pytest.raises(ValueError, match=rf"^{name} must have at least 1 dimension\(s\), got shape \(\)$"):
            function(torch.tensor(0.0))
    with pytest.raises(TypeError, match=r"^log_probs must be a torch.Tensor, got float$"):
        pathwise_entropy(0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^log_probs must be floating, got torch.int64"):
        pathwise_entropy(torch.tensor(1))
