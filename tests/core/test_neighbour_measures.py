"""k-nearest-neighbour, particle and manifold entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from entroreg.measures import gaussian_entropy, knn_entropy, manifold_entropy, particle_entropy

SEEDS = st.integers(0, 2**31)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sorted_distances(features: np.ndarray) -> list[list[float]]:
    return [
        sorted(math.dist(x, y) for j, y in enumerate(features.tolist()) if i != j)
        for i, x in enumerate(features.tolist())
    ]


def _kozachenko_leonenko(features: np.ndarray, k: int) -> float:
    count, width = features.shape
    harmonic = sum(1.0 / i for i in range(k, count))  # psi(count) - psi(k)
    ball = {1: 2.0, 2: math.pi, 3: 4.0 * math.pi / 3.0, 4: math.pi**2 / 2.0}[width]
    return harmonic + math.log(ball) + width * np.mean([math.log(d[k - 1]) for d in _sorted_distances(features)])


@given(seed=SEEDS, count=st.integers(3, 9), width=st.integers(1, 4), data=st.data())
def test_the_formulas_against_loops(seed: int, count: int, width: int, data: st.DataObject) -> None:
    features, k = _normal(seed, count, width), data.draw(st.integers(1, count - 1))
    assert float(knn_entropy(features, k)) == pytest.approx(_kozachenko_leonenko(features.numpy(), k), abs=1e-10)
    expected = [math.log(1.0 + sum(d[:k]) / k) for d in _sorted_distances(features.numpy())]
    assert particle_entropy(features, k).tolist() == pytest.approx(expected, abs=1e-12)
    memory = _normal(seed + 1, 5, width)
    nearest = [math.log(min(math.dist(x, y) for y in memory.tolist())) for x in features.tolist()]
    assert manifold_entropy(features, memory).tolist() == pytest.approx(nearest, abs=1e-10)


@given(seed=SEEDS, scale=st.floats(0.01, 100.0))
def test_scale_shift_rotation_and_order(seed: int, scale: float) -> None:
    features = _normal(seed, 12, 3)
    entropy, rotation = knn_entropy(features), torch.linalg.qr(_normal(seed + 1, 3, 3)).Q
    torch.testing.assert_close(knn_entropy(scale * features), entropy + 3 * math.log(scale), rtol=1e-9, atol=1e-9)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    for same in (features + 5.0, features @ rotation, features[order]):
        torch.testing.assert_close(knn_entropy(same), entropy, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(particle_entropy(features[order], 4), particle_entropy(features, 4)[order])
    memory = _normal(seed + 2, 6, 3)
    torch.testing.assert_close(
        manifold_entropy(scale * features, scale * memory), manifold_entropy(features, memory) + math.log(scale)
    )
    torch.testing.assert_close(
        manifold_entropy(features[order], memory.flip(0)), manifold_entropy(features, memory)[order]
    )


@pytest.mark.parametrize("k", [1, 3, 10])
def test_knn_estimates_known_entropies(k: int) -> None:
    log_std = torch.tensor([0.5, -1.0], dtype=torch.float64)
    normal = _normal(0, 4000, 2) * log_std.exp()
    # The standard error is sqrt(trigamma(k) + ...) / sqrt(4000): about 0.02 for k = 1.
    assert float(knn_entropy(normal, k)) == pytest.approx(float(gaussian_entropy(log_std)), abs=0.07)
    uniform = torch.rand(4000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3.0
    assert float(knn_entropy(uniform, k)) == pytest.approx(math.log(3.0), abs=0.07)
    assert float(knn_entropy(uniform, k)) == pytest.approx(
        scipy.stats.differential_entropy(uniform[:, 0].numpy()), abs=0.07
    )


@pytest.mark.parametrize("k", [1, 2, 4])
def test_gradients_at_generic_points(k: int) -> None:
    features, memory = _normal(3, 6, 2).requires_grad_(True), _normal(4, 5, 2)
    for function in (
        lambda x: knn_entropy(x, k),
        lambda x: particle_entropy(x, k),
        lambda x: manifold_entropy(x, memory),
    ):
        assert gradcheck(function, (features,))
        assert gradgradcheck(function, (features,))


def test_duplicates_are_finite_and_push_nowhere() -> None:
    for dtype in (torch.float32, torch.float64):
        leaf = torch.zeros(5, 2, dtype=dtype, requires_grad=True)
        knn, particle = knn_entropy(leaf, 2), particle_entropy(leaf, 2)
        manifold = manifold_entropy(leaf, torch.zeros(1, 2, dtype=dtype))
        smallest = math.log(torch.finfo(dtype).tiny)
        constants = scipy.special.digamma(5) - scipy.special.digamma(2) + math.log(math.pi)
        assert knn.item() == pytest.approx(constants + 2 * smallest, rel=1e-6)
        assert particle.tolist() == [0.0] * 5
        assert manifold.tolist() == pytest.approx([smallest] * 5, rel=1e-6)
        (knn + particle.sum() + manifold.sum()).backward()
        assert torch.equal(leaf.grad, torch.zeros(5, 2, dtype=dtype))


def test_a_duplicate_pair_does_not_poison_the_rest() -> None:
    leaf = torch.tensor([[0.0], [0.0], [1.0], [3.0]], requires_grad=True)
    particle_entropy(leaf, 2).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad[3, 0] > 0.0
    assert particle_entropy(leaf, 1).tolist() == pytest.approx([0.0, 0.0, math.log(2.0), math.log(3.0)])


def test_near_neighbours_far_from_the_origin_keep_their_distance() -> None:
    # The matrix-product form of cdist, chosen by torch above 25 rows, would lose these distances to cancellation.
    grid = (
        1000.0 + 0.01 * torch.rand(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).float()
    for function in (
        lambda x: knn_entropy(x, 3),
        lambda x: particle_entropy(x, 3),
        lambda x: manifold_entropy(x[:32], x[32:]),
    ):
        torch.testing.assert_close(function(grid).double(), function(grid.double()), rtol=1e-4, atol=1e-7)


def test_memory_gets_no_gradient() -> None:
    features, memory = _normal(0, 3, 2).requires_grad_(True), _normal(1, 4, 2).requires_grad_(True)
    manifold_entropy(features, memory).sum().backward()
    assert memory.grad is None
    assert features.grad.abs().min() > 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_accumulated_in_float32(dtype: torch.dtype) -> None:
    features = _normal(6, 300, 8).to(dtype)
    tolerance = torch.finfo(dtype).eps
    for function in (knn_entropy, particle_entropy, lambda x: manifold_entropy(x[:100], x[100:])):
        value = function(features)
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), function(features.double()), rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("function", [knn_entropy, particle_entropy])
def test_knn_and_particle_raise(function: object) -> None:
    for call, kind, message in (
        (lambda: function([[0.0]], 1), TypeError, r"^features must be a torch.Tensor, got list$"),  # type: ignore[operator]
        (lambda: function(torch.zeros(3, 2).long(), 1), TypeError, r"^features must be floating, got torch.int64"),  # type: ignore[operator]
        (lambda: function(torch.zeros(3), 1), ValueError, r"^features must have at least 2 dimension\(s\)"),  # type: ignore[operator]
        (
            lambda: function(torch.zeros(2, 3, 4), 1),
            ValueError,
            r"^features must have shape \(B, D\), got \(2, 3, 4\)$",
        ),  # type: ignore[operator]
        (
            lambda: function(torch.zeros(1, 4), 1),
            ValueError,
            r"^features must have at least 2 row\(s\) and 1 column",
        ),  # type: ignore[operator]
        (lambda: function(torch.zeros(4, 2), 1.0), TypeError, r"^k must be an integer, got float$"),  # type: ignore[operator]
        (lambda: function(torch.zeros(4, 2), True), TypeError, r"^k must be an integer, got bool$"),  # type: ignore[operator]
        (
            lambda: function(torch.zeros(4, 2), 0),
            ValueError,
            r"^k must be between 1 and B - 1 = 3, got 0: use a larger",
        ),  # type: ignore[operator]
        (
            lambda: function(torch.zeros(4, 2), 4),
            ValueError,
            r"^k must be between 1 and B - 1 = 3, got 4: use a larger",
        ),  # type: ignore[operator]
    ):
        with pytest.raises(kind, match=message):
            call()


def test_manifold_raises() -> None:
    features = torch.zeros(3, 2)
    with pytest.raises(TypeError, match=r"^memory must be floating, got torch.int64"):
        manifold_entropy(features, torch.zeros(3, 2).long())
    with pytest.raises(ValueError, match=r"^memory must have at least 1 row\(s\) and 1 column, got \(0, 2\)$"):
        manifold_entropy(features, torch.zeros(0, 2))
    for other in (torch.zeros(4, 3), torch.zeros(1, 4, 2)):
        with pytest.raises(
            ValueError, match=r"^features and memory must have shapes \(B, D\) and \(M, D\), got \(3, 2\)"
        ):
            manifold_entropy(features, other)
    with pytest.raises(ValueError, match=r"^memory must be on the device of features, cpu, got meta$"):
        manifold_entropy(features, torch.zeros(3, 2, device="meta"))
