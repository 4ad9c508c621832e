"""Known values, orderings and identities of the categorical measures."""

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

from entroreg.measures import (
    categorical_entropy,
    max_categorical_entropy,
    normalized_entropy,
    renyi_entropy,
    tsallis_entropy,
)

LOGITS = st.lists(st.floats(-20, 20).map(lambda x: round(x, 6)), min_size=1, max_size=8).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def _probs(logits: Tensor) -> np.ndarray:
    return scipy.special.softmax(logits.numpy())


@given(logits=LOGITS)
def test_categorical_entropy_is_scipys(logits: Tensor) -> None:
    expected = scipy.stats.entropy(_probs(logits))
    assert float(categorical_entropy(logits)) == pytest.approx(expected, abs=1e-12)
    assert float(normalized_entropy(logits)) * math.log(max(len(logits), 2)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("probs", "expected"),
    [
        ([0.5, 0.5], math.log(2)),
        ([0.25] * 4, math.log(4)),
        ([0.5, 0.25, 0.25], 1.5 * math.log(2)),
        ([0.9, 0.1], 0.3250829733914482),
        ([1.0, 0.0], 0.0),
    ],
)
def test_categorical_entropy_of_known_distributions(probs: list[float], expected: float) -> None:
    logits = torch.tensor(probs, dtype=torch.float64).log() + 7.0
    assert float(categorical_entropy(logits)) == pytest.approx(expected, abs=1e-12)


@given(logits=LOGITS)
def test_gradient_of_entropy(logits: Tensor) -> None:
    leaf = logits.clone().requires_grad_(True)
    categorical_entropy(leaf).backward()
    probs = _probs(logits)
    expected = -scipy.special.xlogy(probs, probs) - probs * scipy.stats.entropy(probs)
    np.testing.assert_allclose(leaf.grad.numpy(), expected, atol=1e-12)


def test_entropy_rises_with_temperature_by_the_variance_of_the_logits() -> None:
    logits = torch.tensor([0.3, -1.2, 2.0, 0.7], dtype=torch.float64)
    for tau in (0.5, 1.0, 3.0):
        slope = (
            categorical_entropy(logits, None, tau + 1e-5) - categorical_entropy(logits, None, tau - 1e-5)
        ) / 2e-5
        probs = scipy.special.softmax(logits.numpy() / tau)
        variance = probs @ logits.numpy() ** 2 - (probs @ logits.numpy()) ** 2
        assert float(slope) == pytest.approx(variance / tau**3, rel=1e-6)


def test_normalized_entropy_counts_kept_elements_only() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert normalized_entropy(logits, mask).tolist() == pytest.approx([1.0, 0.0])
    uneven = torch.tensor([0.75, 0.25, 9.0], dtype=torch.float64).log()
    expected = scipy.stats.entropy([0.75, 0.25], base=2)
    assert float(normalized_entropy(uneven, torch.tensor([True, True, False]))) == pytest.approx(expected)


@given(logits=LOGITS, orders=st.lists(st.floats(0.05, 20.0), min_size=2, max_size=2).map(sorted))
def test_renyi_and_tsallis_do_not_rise_with_the_order(logits: Tensor, orders: list[float]) -> None:
    low, high = orders
    for function in (renyi_entropy, tsallis_entropy):
        assert function(logits, low) >= function(logits, high) - 1e-11
    assert renyi_entropy(logits, high) >= renyi_entropy(logits, math.inf) - 1e-11
    assert renyi_entropy(logits, math.inf) >= renyi_entropy(logits, high) * (high - 1) / high - 1e-11


@given(logits=LOGITS, distance=st.floats(1e-12, 1e-3), side=st.sampled_from([-1.0, 1.0]))
def test_renyi_and_tsallis_are_continuous_at_order_1(logits: Tensor, distance: float, side: float) -> None:
    shannon = scipy.stats.entropy(_probs(logits))
    for function in (renyi_entropy, tsallis_entropy):
        value = float(function(logits, 1.0 + side * distance))
        assert abs(value - shannon) <= 500.0 * distance + 1e-12  # the slope is at most E[log^2 p] / 2


@pytest.mark.parametrize("edge", [0.9, 1.1])
def test_renyi_is_continuous_where_its_form_changes(edge: float) -> None:
    logits = torch.tensor([0.0, 1.0, -2.0, -30.0], dtype=torch.float64)
    below, above = (float(renyi_entropy(logits, edge + step)) for step in (-1e-9, 1e-9))
    assert below == pytest.approx(above, abs=1e-8)


@given(logits=LOGITS, order=st.floats(0.05, 10.0).filter(lambda q: abs(q - 1) > 1e-3))
def test_renyi_is_a_function_of_tsallis(logits: Tensor, order: float) -> None:
    power_sum = 1.0 + (1.0 - order) * float(tsallis_entropy(logits, order))
    expected = math.log(power_sum) / (1.0 - order)
    assert float(renyi_entropy(logits, order)) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("order", [0.1, 0.5, 0.999999, 1.0, 1.000001, 2.0, 50.0])
def test_generalized_entropies_of_a_uniform_row(order: float) -> None:
    logits = torch.zeros(7, dtype=torch.float64)
    assert float(renyi_entropy(logits, order)) == pytest.approx(math.log(7), rel=1e-12)
    expected = scipy.special.boxcox(7.0, 1.0 - order)  # the q-logarithm
    assert float(tsallis_entropy(logits, order)) == pytest.approx(float(expected), rel=1e-9)


def test_tsallis_of_order_2_is_the_gini_impurity_and_renyis_the_collision_entropy() -> None:
    probs = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert float(tsallis_entropy(probs.log(), 2.0)) == pytest.approx(0.62)
    assert float(renyi_entropy(probs.log(), 2.0)) == pytest.approx(-math.log(0.38))
    assert float(renyi_entropy(probs.log(), math.inf)) == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("order", [0.3, 0.5, 0.95, 1.05, 3.0])
@pytest.mark.parametrize("function", [tsallis_entropy, renyi_entropy])
def test_a_vanishing_probability_has_a_finite_gradient(function: object, order: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1e4, -200.0, -math.inf], dtype=torch.float32, requires_grad=True)
    function(logits, order).backward()  # type: ignore[operator]
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[2] == 0.0
    assert logits.grad[4] == 0.0


@pytest.mark.parametrize("function", [tsallis_entropy, renyi_entropy])
def test_order_must_be_a_positive_number(function: object) -> None:
    logits = torch.zeros(3)
    for bad in (0.0, -2.0):
        with pytest.raises(ValueError, match=rf"^order must be finite and above 0, got {bad}$"):
            function(logits, bad)  # type: ignore[operator]
    for bad in (math.nan, -math.inf):
        with pytest.raises(ValueError, match=rf"^order must be finite, got {bad}$"):
            function(logits, bad)  # type: ignore[operator]
    for kind in ("2", True, None):
        with pytest.raises(TypeError, match=rf"^order must be a number, got {type(kind).__name__}$"):
            function(logits, kind)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"^order must be finite, got inf$"):
        tsallis_entropy(logits, math.inf)


def test_max_categorical_entropy() -> None:
    assert max_categorical_entropy(1) == 0.0
    assert max_categorical_entropy(6) == pytest.approx(scipy.stats.entropy([1 / 6] * 6))
    assert max_categorical_entropy(np.int64(4)) == pytest.approx(math.log(4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^count must be finite and at least 1, got 0$"):
        max_categorical_entropy(0)
    with pytest.raises(TypeError, match=r"^count must be a number, got str$"):
        max_categorical_entropy("4")  # type: ignore[arg-type]


def test_finite_logits_further_apart_than_the_dtype_reaches() -> None:
    logits = torch.tensor([3e38, -3e38, 0.0, 0.0], requires_grad=True)
    entropy = categorical_entropy(logits)
    entropy.backward()
    assert entropy.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(4))
