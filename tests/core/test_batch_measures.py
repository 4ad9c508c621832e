"""Marginal and spectral entropy; the neighbour-based measures are in ``test_neighbour_measures``."""

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

from entroreg.measures import categorical_entropy, marginal_entropy, spectral_entropy

INF = math.inf
SEEDS = st.integers(0, 2**31)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=SEEDS, rows=st.integers(1, 5), scale=st.sampled_from([0.1, 3.0, 1e4]), tau=st.floats(0.2, 5.0))
def test_marginal_is_the_entropy_of_the_mean(seed: int, rows: int, scale: float, tau: float) -> None:
    logits = scale * _normal(seed, rows, 4)
    expected = scipy.stats.entropy(scipy.special.softmax(logits.numpy() / tau, axis=-1).mean(axis=0))
    value = float(marginal_entropy(logits, tau))
    assert value == pytest.approx(expected, abs=1e-12)
    assert 0.0 <= value <= math.log(4) + 1e-12
    assert value >= float(categorical_entropy(logits, None, tau).mean()) - 1e-12  # concavity
    assert value == pytest.approx(float(marginal_entropy(logits.flip(0), tau)), abs=1e-12)
    assert value == pytest.approx(float(marginal_entropy(logits + _normal(seed + 1, rows, 1), tau)), abs=1e-9)


def test_marginal_of_one_row_is_its_entropy_and_a_batch_is_a_loop() -> None:
    logits = _normal(0, 3, 1, 5)
    torch.testing.assert_close(marginal_entropy(logits), categorical_entropy(logits)[:, 0])
    logits = _normal(1, 2, 3, 4, 5)
    logits[0, 1, 2, 3] = -INF
    looped = torch.stack([torch.stack([marginal_entropy(rows) for rows in block]) for block in logits])
    torch.testing.assert_close(marginal_entropy(logits), looped)


def test_marginal_leaves_rows_without_support_out() -> None:
    logits = _normal(2, 4, 3)
    logits[1], logits[2, 0] = -INF, -INF
    leaf = logits.clone().requires_grad_(True)
    value = marginal_entropy(leaf)
    value.backward()
    torch.testing.assert_close(value.detach(), marginal_entropy(logits[[0, 2, 3]]))
    assert torch.equal(leaf.grad[1], torch.zeros(3, dtype=torch.float64))
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (0, 2, 3)])
def test_marginal_of_nothing_is_0(shape: tuple[int, ...]) -> None:
    leaf = torch.zeros(shape, requires_grad=True)
    value = marginal_entropy(leaf)
    assert torch.equal(value, torch.zeros(shape[:-2]))
    value.sum().backward()
    assert leaf.grad.shape == shape
    out = torch.full((3, 4), -INF, requires_grad=True)
    marginal_entropy(out).backward()
    assert torch.equal(out.grad, torch.zeros(3, 4))


def test_marginal_gradients() -> None:
    out = torch.zeros(2, 3, 4, dtype=torch.bool)
    out[0, 1], out[1, 2, 0] = True, True
    leaf = _normal(3, 2, 3, 4).requires_grad_(True)

    def function(z: Tensor) -> Tensor:
        return marginal_entropy(z.masked_fill(out, -INF), 0.8)

    assert gradcheck(function, (leaf,))
    assert gradgradcheck(function, (leaf,))
    one_hot = torch.tensor([[1e4, -1e4], [1e4, -1e4]], requires_grad=True)
    marginal_entropy(one_hot).backward()
    assert torch.equal(one_hot.grad, torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_marginal_accumulates_in_float32(dtype: torch.dtype) -> None:
    logits = _normal(4, 5000, 7).to(dtype)
    value = marginal_entropy(logits)
    assert value.dtype == dtype
    assert float(value) == pytest.approx(float(marginal_entropy(logits.double())), rel=torch.finfo(dtype).eps)


def test_marginal_raises() -> None:
    with pytest.raises(TypeError, match=r"^logits must be floating, got torch.int64"):
        marginal_entropy(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"^logits must have at least 2 dimension\(s\), got shape \(3,\)$"):
        marginal_entropy(torch.zeros(3))
    with pytest.raises(ValueError, match=r"^temperature must be finite and above 0, got 0$"):
        marginal_entropy(torch.zeros(2, 3), 0)
    with pytest.raises(ValueError, match=r"^logits must be finite or -inf, got nan at index \(0, 1\)"):
        marginal_entropy(torch.tensor([[0.0, math.nan]]), validate=True)
    assert marginal_entropy(torch.zeros(2, 3, 4, device="meta")).shape == (2,)


def _von_neumann(features: np.ndarray) -> float:
    spectrum = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2
    weights = spectrum / spectrum.sum()
    return float(scipy.special.entr(weights[weights > 1e-12]).sum())


@given(seed=SEEDS, rows=st.integers(2, 8), columns=st.integers(1, 8))
def test_spectral_entropy(seed: int, rows: int, columns: int) -> None:
    features = _normal(seed, rows, columns) * torch.linspace(0.5, 2.0, columns, dtype=torch.float64)
    value = float(spectral_entropy(features))
    assert value == pytest.approx(_von_neumann(features.numpy()), abs=1e-8)
    assert 0.0 <= value <= math.log(max(min(rows - 1, columns), 1)) + 1e-12
    rotation = torch.linalg.qr(_normal(seed + 1, columns, columns)).Q
    for same in (features.flip(0), features @ rotation, -1e3 * features, features + _normal(seed, 1, columns)):
        assert float(spectral_entropy(same)) == pytest.approx(value, abs=1e-8)


def test_spectral_entropy_of_known_spectra() -> None:
    corners = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, -3.0, 0.0]])
    assert float(spectral_entropy(corners)) == pytest.approx(scipy.stats.entropy([0.1, 0.9]), abs=1e-6)
    assert float(spectral_entropy(torch.eye(5).repeat(2, 1))) == pytest.approx(math.log(4), abs=1e-5)
    line = torch.linspace(0, 1, 9)[:, None] * torch.tensor([1.0, 2.0])
    assert float(spectral_entropy(line)) == 0.0


def test_null_directions_add_nothing() -> None:
    # 200 eigenvalues of rounding noise, about 1e-7 of the largest each, would add 2e-4 nats in float32.
    level, width = torch.linspace(-1.0, 1.0, 300), torch.linspace(0.5, 2.0, 200)
    assert spectral_entropy(torch.outer(level, width)).item() == 0.0
    two = torch.outer(level, width) + 0.1 * torch.outer(level.square(), width.flip(0))
    assert spectral_entropy(two).item() == pytest.approx(_von_neumann(two.double().numpy()), abs=5e-6)


def test_a_batch_of_spectra_is_a_loop() -> None:
    features = _normal(0, 2, 3, 6, 4)
    looped = torch.stack([torch.stack([spectral_entropy(x) for x in block]) for block in features])
    torch.testing.assert_close(spectral_entropy(features), looped)
    assert spectral_entropy(torch.zeros(0, 3, 2)).shape == (0,)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (2, 5, 3)])
def test_spectral_gradients_away_from_degeneracy(shape: tuple[int, ...]) -> None:
    stretch = torch.arange(1.0, shape[-1] + 1, dtype=torch.float64)
    leaf = (_normal(0, *shape) * stretch).requires_grad_(True)
    assert gradcheck(spectral_entropy, (leaf,))
    assert gradgradcheck(spectral_entropy, (leaf,))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 1)])
def test_features_that_do_not_vary_have_value_and_gradient_0(shape: tuple[int, int]) -> None:
    leaf = torch.full(shape, 0.3, requires_grad=True)
    value = spectral_entropy(leaf)
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(leaf.grad, torch.zeros(shape))


def test_spectral_gradient_is_finite_at_degenerate_spectra() -> None:
    leaf = torch.eye(4).repeat(2, 1).requires_grad_(True)
    spectral_entropy(leaf).backward()
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_spectral_accumulates_in_float32(dtype: torch.dtype) -> None:
    features = (_normal(5, 20_000, 6) * torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.25]) + 3.0).to(dtype)
    value = spectral_entropy(features)
    assert value.dtype == dtype
    assert float(value) == pytest.approx(float(spectral_entropy(features.double())), rel=torch.finfo(dtype).eps)


def test_spectral_raises() -> None:
    with pytest.raises(
        TypeError, match=r"^features must be floating, got torch.int64: convert with features.float"
    ):
        spectral_entropy(torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"^features must have at least 2 dimension\(s\), got shape \(3,\)$"):
        spectral_entropy(torch.zeros(3))
    with pytest.raises(ValueError, match=r"^features must have at least 2 row\(s\) and 1 column, got \(4, 1, 3\)$"):
        spectral_entropy(torch.zeros(4, 1, 3))
    with pytest.raises(ValueError, match=r"^features must have at least 2 row\(s\) and 1 column, got \(4, 0\)$"):
        spectral_entropy(torch.zeros(4, 0))


@pytest.mark.parametrize("scale", [1e-25, 1e20])
def test_spectral_entropy_does_not_depend_on_the_scale(scale: float) -> None:
    features = _normal(3, 8, 4).float()
    assert spectral_entropy(features * scale).item() == pytest.approx(spectral_entropy(features).item(), rel=1e-5)
