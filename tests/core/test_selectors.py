from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from entroreg.selectors import (
    covariance_band,
    covariance_topk,
    low_entropy,
    token_covariance,
    top_quantile_entropy,
)

TOP = pytest.mark.parametrize("top", [top_quantile_entropy, covariance_topk])
FEW = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 0.5, 2.0, math.nan])


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@TOP
@given(
    rows=st.lists(st.tuples(FEW, st.booleans()), min_size=0, max_size=12),
    fraction=st.floats(0.0, 1.0, exclude_min=True),
    masked=st.booleans(),
)
def test_the_top_is_a_stable_sort(
    top: object, rows: list[tuple[float, bool]], fraction: float, masked: bool
) -> None:
    values = torch.tensor([value for value, _ in rows])
    mask = torch.tensor([keep for _, keep in rows], dtype=torch.bool) if masked else None
    kept = [i for i, (_, keep) in enumerate(rows) if keep or not masked]
    count = max(1, int(fraction * len(kept))) if kept else 0
    ranked = sorted((i for i in kept if not math.isnan(rows[i][0])), key=lambda i: (-rows[i][0], i))
    chosen = top(values, fraction, mask)  # type: ignore[operator]
    assert chosen.dtype == torch.bool
    assert chosen.nonzero().flatten().tolist() == sorted(ranked[:count])


@TOP
def test_the_top_runs_over_all_dimensions_at_once(top: object) -> None:
    values = _normal(0, 4, 5)
    mask = _normal(1, 4, 5) > -0.5
    chosen = top(values, 0.3, mask)  # type: ignore[operator]
    assert chosen.shape == values.shape
    assert chosen.sum() == int(0.3 * int(mask.sum()))
    assert values[chosen].min() > values[mask & ~chosen].max()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    shuffled = top(values.flatten()[order], 0.3, mask.flatten()[order])  # type: ignore[operator]
    assert torch.equal(shuffled, chosen.flatten()[order])
    assert top(torch.tensor(0.3), 0.5).item() is True  # type: ignore[operator]


@TOP
def test_at_least_one_none_of_an_empty_mask_and_never_nan(top: object) -> None:
    values = torch.tensor([1.0, math.nan, 3.0, 3.0])
    assert top(values, 1e-6).tolist() == [False, False, True, False]  # type: ignore[operator]
    assert top(values, 1.0).tolist() == [True, False, True, True]  # type: ignore[operator]
    assert not top(values, 1.0, torch.zeros(4, dtype=torch.bool)).any()  # type: ignore[operator]
    assert top(values, 0.5, torch.tensor([True, True, False, False])).tolist() == [True, False, False, False]  # type: ignore[operator]
    assert top(torch.empty(0), 0.5).shape == (0,)  # type: ignore[operator]
    minimum = torch.tensor([5.0, -math.inf, 7.0])
    assert top(minimum, 1.0, torch.tensor([False, True, False])).tolist() == [False, True, False]  # type: ignore[operator]


@TOP
@pytest.mark.parametrize("masked", [False, True])
def test_the_count_is_computed_in_float64(top: object, masked: bool) -> None:
    values = torch.arange(100.0)
    mask = torch.ones(100, dtype=torch.bool) if masked else None
    assert int(top(values, 0.29, mask).sum()) == int(0.29 * 100) == 28  # type: ignore[operator] # float32 says 29


@TOP
def test_top_raises(top: object) -> None:
    name = "entropy" if top is top_quantile_entropy else "covariance"
    values = torch.zeros(3)
    for bad in (0.0, -0.5, 1.5):
        with pytest.raises(ValueError, match=rf"^fraction must be in \(0, 1\], got {bad}$"):
            top(values, bad)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"^fraction must be finite, got nan$"):
        top(values, math.nan)  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"^fraction must be a number, got str$"):
        top(values, "0.5")  # type: ignore[operator]
    with pytest.raises(TypeError, match=rf"^{name} must be floating, got torch.int64"):
        top(values.long(), 0.5)  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"^mask must be boolean"):
        top(values, 0.5, values)  # type: ignore[operator]
    with pytest.raises(ValueError, match=rf"^mask must have the shape of {name}, \(3,\), got \(2,\)$"):
        top(values, 0.5, torch.ones(2, dtype=torch.bool))  # type: ignore[operator]
    nan = torch.tensor([0.0, math.nan, 1.0])
    with pytest.raises(ValueError, match=rf"^{name} must be finite or -inf, got nan at index \(1,\)"):
        top(nan, 0.5, validate=True)  # type: ignore[operator]
    top(nan, 0.5, ~nan.isnan(), validate=True)  # type: ignore[operator]


@given(seed=st.integers(0, 2**31), shift=st.floats(-1e3, 1e3), masked=st.booleans())
def test_the_mean_of_token_covariance_is_numpys_biased_covariance(seed: int, shift: float, masked: bool) -> None:
    log_probs, advantages = _normal(seed, 3, 4), _normal(seed + 1, 3, 4)
    mask = _normal(seed + 2, 3, 4) > -0.3 if masked else None
    keep = torch.ones(3, 4, dtype=torch.bool) if mask is None else mask
    shares = token_covariance(log_probs, advantages, mask)
    if keep.any():
        expected = np.cov(log_probs[keep].numpy(), advantages[keep].numpy(), bias=True)[0, 1]
        assert float(shares[keep].mean()) == pytest.approx(expected, abs=1e-12)
        x, y = log_probs[keep], advantages[keep]
        by_hand = [
            (a - float(x.mean())) * (b - float(y.mean())) for a, b in zip(x.tolist(), y.tolist(), strict=True)
        ]
        assert shares[keep].tolist() == pytest.approx(by_hand, abs=1e-12)
    assert (shares[~keep] == 0.0).all()
    shifted = token_covariance(log_probs + shift, advantages - shift, mask)
    torch.testing.assert_close(shifted, shares, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(token_covariance(log_probs, -2.0 * advantages, mask), -2.0 * shares)


def test_token_covariance_is_detached_wide_and_blind_to_what_is_masked() -> None:
    log_probs = torch.tensor([[-1.0, -2.0, math.nan], [-3.0, math.inf, -1.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, math.nan, 2.0], [-1.0, 0.0, 0.5]], requires_grad=True)
    mask = torch.tensor([[True, False, False], [True, False, True]])
    shares = token_covariance(log_probs, advantages, mask)
    assert not shares.requires_grad
    clean = token_covariance(torch.tensor([-1.0, -3.0, -1.5]), torch.tensor([1.0, -1.0, 0.5]))
    torch.testing.assert_close(shares[mask], clean)
    assert (shares[~mask] == 0.0).all()
    assert torch.equal(token_covariance(log_probs, advantages, torch.zeros_like(mask)), torch.zeros(2, 3))
    assert token_covariance(torch.zeros(0), torch.zeros(0)).shape == (0,)
    assert token_covariance(torch.tensor(1.0), torch.tensor(2.0)).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_token_covariance_accumulates_in_float32(dtype: torch.dtype) -> None:
    log_probs, advantages = (_normal(0, 100_000) - 2.0).to(dtype), (_normal(1, 100_000) + 1.0).to(dtype)
    for mask in (None, torch.ones(100_000, dtype=torch.bool)):
        shares = token_covariance(log_probs, advantages, mask)
        assert shares.dtype == torch.float32
        exact = token_covariance(log_probs.double(), advantages.double())
        torch.testing.assert_close(shares.double(), exact, rtol=1e-4, atol=1e-4)


def test_thresholds_are_strict_and_nan_is_outside() -> None:
    values = torch.tensor([0.5, 1.0, 1.5, 5.0, math.nan], requires_grad=True)
    mask = torch.tensor([True, True, False, True, True])
    assert covariance_band(values, 1.0, 5.0).tolist() == [False, False, True, False, False]
    assert covariance_band(values, 0.0, 5.1, mask).tolist() == [True, True, False, True, False]
    assert low_entropy(values, 1.0).tolist() == [True, False, False, False, False]
    assert low_entropy(values, 9.0, mask).tolist() == [True, True, False, True, False]
    for empty in (covariance_band(torch.empty(0), 0.0, 1.0), low_entropy(torch.empty(2, 0), 1.0)):
        assert empty.dtype == torch.bool
        assert empty.numel() == 0


def test_threshold_selectors_raise() -> None:
    values = torch.zeros(3)
    for low, high in ((5.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match=rf"^low must be below high, got {low} and {high}$"):
            covariance_band(values, low, high)
    with pytest.raises(ValueError, match=r"^high must be finite, got inf$"):
        covariance_band(values, 1.0, math.inf)
    with pytest.raises(TypeError, match=r"^low must be a number, got Tensor$"):
        covariance_band(values, torch.tensor(0.0), 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^covariance must be floating, got torch.bool"):
        covariance_band(values.bool(), 0.0, 1.0)
    with pytest.raises(ValueError, match=r"^mask must have the shape of covariance, \(3,\), got \(3, 1\)$"):
        covariance_band(values, 0.0, 1.0, torch.ones(3, 1, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"^threshold must be a number, got NoneType$"):
        low_entropy(values, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^entropy must be a torch.Tensor, got list$"):
        low_entropy([0.0], 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^mask must be boolean"):
        low_entropy(values, 1.0, values)
    with pytest.raises(ValueError, match=r"^mask must have the shape of entropy, \(3,\), got \(4,\)$"):
        low_entropy(values, 1.0, torch.ones(4, dtype=torch.bool))


def test_token_covariance_raises() -> None:
    values = torch.zeros(3)
    with pytest.raises(TypeError, match=r"^log_probs must be floating, got torch.int64"):
        token_covariance(values.long(), values)
    with pytest.raises(TypeError, match=r"^advantages must be floating, got torch.int64"):
        token_covariance(values, values.long())
    with pytest.raises(ValueError, match=r"^advantages must have the shape of log_probs, \(3,\), got \(3, 1\)$"):
        token_covariance(values, values[:, None])
    with pytest.raises(ValueError, match=r"^advantages must be on the device of log_probs, cpu, got meta$"):
        token_covariance(values, values.to("meta"))
    with pytest.raises(ValueError, match=r"^mask must be on the device of log_probs, cpu, got meta$"):
        token_covariance(values, values, torch.ones(3, dtype=torch.bool, device="meta"))
    with pytest.raises(TypeError, match=r"^mask must be boolean"):
        token_covariance(values, values, values)
