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

from entroreg.measures import categorical_entropy, group_entropy

SIZES = torch.tensor([80, 5, 5, 5, 5])
BY_SIZE = -0.8 * math.log(0.8) - 0.2 * math.log(0.05)
INDICES = torch.repeat_interleave(torch.arange(5), SIZES)


@pytest.mark.parametrize(("agg", "expected"), [("sum", BY_SIZE), ("mean", math.log(5)), ("count", BY_SIZE)])
def test_uniform_scores_with_sizes_80_5_5_5_5(agg: str, expected: float) -> None:
    scores = torch.zeros(100, dtype=torch.float64)
    assert float(group_entropy(scores, INDICES, agg=agg, num_groups=5)) == pytest.approx(expected, abs=1e-12)
    assert round(expected, 3) in (0.778, 1.609)


def _scores(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 2**31), count=st.integers(1, 12), groups=st.integers(1, 5))
def test_the_sum_is_bounded_by_the_entropy_of_the_elements(seed: int, count: int, groups: int) -> None:
    scores = 5.0 * _scores(seed, count)
    indices = torch.randint(groups, (count,), generator=torch.Generator().manual_seed(seed))
    mask = _scores(seed + 1, count) > -1.0
    entropy = group_entropy(scores, indices, mask, num_groups=groups)
    assert entropy <= categorical_entropy(scores, mask) + 1e-12
    own = torch.arange(count)
    torch.testing.assert_close(
        group_entropy(scores, own, mask, num_groups=count),
        categorical_entropy(scores, mask),
        rtol=1e-12,
        atol=1e-12,
    )
    one = group_entropy(scores, torch.zeros_like(own), mask, num_groups=1)
    assert abs(float(one)) < 1e-12


@given(seed=st.integers(0, 2**31))
def test_soft_memberships_against_a_loop(seed: int) -> None:
    scores, soft = 3.0 * _scores(seed, 6), scipy.special.softmax(_scores(seed + 1, 6, 4).numpy(), axis=-1)
    probs = scipy.special.softmax(scores.numpy())
    by_sum = [sum(probs[n] * soft[n, c] for n in range(6)) for c in range(4)]
    means = [sum(float(scores[n]) * soft[n, c] for n in range(6)) / soft[:, c].sum() for c in range(4)]
    expected = {
        "sum": scipy.stats.entropy(by_sum),
        "mean": scipy.stats.entropy(scipy.special.softmax(means)),
        "count": scipy.stats.entropy(soft.sum(axis=0) / 6),
    }
    for agg, value in expected.items():
        got = group_entropy(scores, torch.from_numpy(soft), agg=agg, validate=True)
        assert float(got) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("agg", ["sum", "mean"])
def test_gradcheck_with_soft_memberships(agg: str) -> None:
    soft = torch.softmax(_scores(0, 3, 5, 4), dim=-1)
    mask = _scores(1, 3, 5) > -0.5
    mask[1] = False
    leaf = _scores(2, 3, 5).requires_grad_(True)

    def function(scores: Tensor) -> Tensor:
        return group_entropy(scores, soft, mask, agg)

    assert gradcheck(function, (leaf,))
    assert gradgradcheck(function, (leaf,))


def test_mean_ignores_sizes_and_sum_does_not() -> None:
    scores = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    indices = torch.tensor([0, 1, 1, 1])
    for agg, same in (("mean", True), ("sum", False), ("count", False)):
        full = group_entropy(scores, indices, agg=agg, num_groups=2)
        short = group_entropy(scores[:2], indices[:2], agg=agg, num_groups=2)
        assert torch.allclose(full, short) is same


@pytest.mark.parametrize("agg", ["sum", "mean", "count"])
def test_a_group_without_members_has_probability_0(agg: str) -> None:
    scores, indices = torch.tensor([0.3, -0.2, 1.0]), torch.tensor([0, 2, 2])
    few = group_entropy(scores, torch.tensor([0, 1, 1]), agg=agg, num_groups=2)
    torch.testing.assert_close(group_entropy(scores, indices, agg=agg, num_groups=7), few)


def test_groups_get_no_gradient_and_count_has_none() -> None:
    scores = torch.zeros(3, requires_grad=True)
    soft = torch.full((3, 2), 0.5, requires_grad=True)
    group_entropy(scores, soft).backward()
    assert soft.grad is None
    assert not group_entropy(scores, soft, agg="count").requires_grad


def test_masked_memberships_are_not_read() -> None:
    scores, mask = torch.zeros(3), torch.tensor([True, True, False])
    indices = torch.tensor([0, 1, -1])
    assert float(group_entropy(scores, indices, mask, num_groups=2, validate=True)) == pytest.approx(math.log(2))
    soft = torch.tensor([[1.0, 0.0], [0.0, 1.0], [math.nan, math.nan]])
    for agg in ("sum", "mean", "count"):
        leaf = scores.clone().requires_grad_(True)
        entropy = group_entropy(leaf, soft, mask, agg, validate=True)
        assert float(entropy.detach()) == pytest.approx(math.log(2))
        if agg != "count":
            entropy.backward()
            assert torch.equal(leaf.grad, torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_memberships_pass_validation(dtype: torch.dtype) -> None:
    soft = torch.softmax(_scores(0, 200, 7), dim=-1).to(dtype)
    group_entropy(torch.zeros(200, dtype=dtype), soft, validate=True)


def test_raises() -> None:
    scores, indices = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"^agg must be one of \['count', 'mean', 'sum'\], got 'max'$"):
        group_entropy(scores, indices, agg="max", num_groups=1)
    with pytest.raises(ValueError, match=r"^num_groups must be given with integer groups: num_groups=int\(groups"):
        group_entropy(scores, indices)
    with pytest.raises(ValueError, match=r"^num_groups must be finite and at least 1, got 0$"):
        group_entropy(scores, indices, num_groups=0)
    with pytest.raises(TypeError, match=r"^groups must be a torch.Tensor, got list$"):
        group_entropy(scores, [0, 0], num_groups=1)  # type: ignore[arg-type]
    for bad in (indices.bool(), indices.to(torch.complex64)):
        with pytest.raises(
            TypeError, match=rf"^groups must be integer indices or floating memberships, got {bad.dtype}"
        ):
            group_entropy(scores, bad, num_groups=1)
    with pytest.raises(ValueError, match=r"^groups must have the shape of scores, \(2, 3\), got \(3,\)$"):
        group_entropy(scores, indices[0], num_groups=1)
    with pytest.raises(ValueError, match=r"^groups must be on the device of scores, cpu, got meta$"):
        group_entropy(scores, indices.to("meta"), num_groups=1)
    with pytest.raises(ValueError, match=r"^groups must be on the device of scores, cpu, got meta$"):
        group_entropy(scores, torch.zeros(2, 3, 4, device="meta"))
    with pytest.raises(ValueError, match=r"^soft groups must have shape .* = \(\*\(2, 3\), K\), got \(2, 4\)$"):
        group_entropy(scores, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"^groups must be in \[0, 2\), got 0 to 2$"):
        group_entropy(scores, indices + torch.tensor([0, 1, 2]), num_groups=2, validate=True)
    with pytest.raises(ValueError, match=r"^groups must be in \[0, 2\), got -1 to 0$"):
        group_entropy(scores, indices - torch.tensor([0, 1, 0]), num_groups=2, validate=True)
    for value in (0.4, math.nan):
        with pytest.raises(ValueError, match=r"^soft groups must sum to 1 over their last dim: normalise"):
            group_entropy(scores, torch.full((2, 3, 2), value), validate=True)


def test_count_is_the_entropy_of_the_sizes() -> None:
    scores = torch.tensor([5.0, 0.0, -math.inf, 1.0, 2.0])
    indices, mask = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([True, True, True, True, False])
    got = group_entropy(scores, indices, mask, "count", num_groups=3)
    assert float(got) == pytest.approx(scipy.stats.entropy(np.array([2, 1]) / 3), rel=1e-6)
