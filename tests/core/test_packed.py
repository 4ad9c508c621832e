"""Measures and sums over packed segments, against plain Python loops over one segment at a time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from entroreg import segments
from entroreg.measures import packed_entropy, packed_normalized_entropy, packed_topk_entropy

INF = math.inf
Rows = list[list[float]]


@st.composite
def ragged(draw: st.DrawFn) -> Rows:
    """Segments of 0 to 6 logits, -inf and ties among them."""
    logit = st.one_of(st.floats(-20, 20).map(lambda x: round(x, 3)), st.sampled_from([-INF, 0.0, 1.0]))
    return draw(st.lists(st.lists(logit, max_size=6), min_size=1, max_size=5))


def packed(rows: Rows) -> tuple[Tensor, Tensor]:
    offsets = torch.tensor([0, *itertools.accumulate(len(row) for row in rows)])
    return torch.tensor([z for row in rows for z in row], dtype=torch.float64), offsets


def shannon(row: list[float]) -> float:
    kept = [z for z in row if z > -INF]
    if not kept:
        return 0.0
    weights = [math.exp(z - max(kept)) for z in kept]
    return math.fsum(-w / math.fsum(weights) * math.log(w / math.fsum(weights)) for w in weights if w > 0)


@given(ragged())
def test_entropy_is_that_of_each_segment(rows: Rows) -> None:
    logits, offsets = packed(rows)
    found = packed_entropy(logits, offsets, validate=True)
    torch.testing.assert_close(found, torch.tensor([shannon(row) for row in rows], dtype=torch.float64))
    sizes = [max(sum(z > -INF for z in row), 2) for row in rows]
    shares = [shannon(row) / math.log(n) for row, n in zip(rows, sizes, strict=True)]
    torch.testing.assert_close(
        packed_normalized_entropy(logits, offsets), torch.tensor(shares, dtype=torch.float64)
    )


@given(ragged(), st.integers(1, 7))
def test_top_k_is_the_entropy_of_the_largest(rows: Rows, k: int) -> None:
    expected = [shannon(sorted(row, reverse=True)[:k]) for row in rows]
    found = packed_topk_entropy(*packed(rows), k)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@given(ragged())
def test_gradient_is_the_formulas(rows: Rows) -> None:
    logits, offsets = packed(rows)
    logits.requires_grad_()
    packed_entropy(logits, offsets).sum().backward()
    expected = []
    for row in rows:
        weights = [math.exp(z - max(row)) if z > -INF else 0.0 for z in row]
        probs = [w / math.fsum(weights) if w else 0.0 for w in weights]
        expected += [-p * (math.log(p) + shannon(row)) if p else 0.0 for p in probs]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-11)


def test_rows_are_packed_together() -> None:
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 2, 7])
    each = [packed_entropy(row, offsets) for row in logits.reshape(6, 7)]
    torch.testing.assert_close(packed_entropy(logits, offsets), torch.stack(each).reshape(2, 3, 2))


@pytest.mark.parametrize(
    "measure", [packed_entropy, packed_normalized_entropy, lambda z, o: packed_topk_entropy(z, o, 2)]
)
def test_gradients_to_second_order(measure) -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.1, 0.5, -0.4]], dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 3, 3, 4, 6])
    assert gradcheck(lambda z: measure(z, offsets), logits)
    assert gradgradcheck(lambda z: measure(z, offsets), logits)


def test_extremes_are_exact() -> None:
    logits = torch.tensor([1e4, -1e4, 0.0, -INF, -INF, 5.0], requires_grad=True)
    found = packed_entropy(logits, torch.tensor([0, 3, 5, 6]))
    assert found.tolist() == [0.0, 0.0, 0.0]
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [0.0] * 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(4000, generator=torch.Generator().manual_seed(0)).to(dtype)
    offsets = torch.tensor([0, 4000])
    exact = packed_entropy(logits.double(), offsets)
    found = packed_entropy(logits, offsets)
    assert found.dtype == dtype
    # One rounding of a number near 7.8 to the dtype, and nothing lost on the way.
    assert abs(float(found) - float(exact)) <= 0.5 * 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("logits", "offsets", "error", "message"),
    [
        (
            torch.zeros(3, dtype=torch.long),
            torch.tensor([0, 3]),
            TypeError,
            "logits must be floating, got torch.int64",
        ),
        (torch.zeros(3), torch.tensor([0.0, 3.0]), TypeError, "offsets must be an int64 tensor, got torch.float32"),
        (torch.zeros(3), [0, 3], TypeError, "offsets must be an int64 tensor, got list"),
        (torch.zeros(3), torch.tensor(3), ValueError, r"offsets must have shape \(segments \+ 1,\), got \(\)"),
        (torch.zeros(3), torch.tensor([0, 2]), ValueError, "offsets must rise from 0 to the 3 logits, got .0, 2."),
        (torch.zeros(3), torch.tensor([0, 4, 3]), ValueError, "offsets must rise from 0 to the 3 logits"),
        (torch.tensor([0.0, math.nan]), torch.tensor([0, 2]), ValueError, "logits must be finite or -inf, got nan"),
    ],
)
def test_bad_input(logits, offsets, error, message) -> None:
    with pytest.raises(error, match=message):
        packed_entropy(logits, offsets, validate=True)


def test_k_below_one() -> None:
    with pytest.raises(ValueError, match="k must be finite and at least 1, got 0"):
        packed_topk_entropy(torch.zeros(3), torch.tensor([0, 3]), 0)


@given(ragged())
def test_argmax_is_the_first_largest(rows: Rows) -> None:
    rows = [row for row in rows if row] or [[0.0]]
    values, offsets = packed(rows)
    ids = segments.segment_ids(offsets, len(values))
    expected = [int(start) + row.index(max(row)) for start, row in zip(offsets, rows, strict=False)]
    if all(max(row) > -INF for row in rows):
        assert segments.segment_argmax(values, ids, len(rows)).tolist() == expected


SIZES = {"short": (2, 1, 4), "long": (200, 150, 300)}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_weighted_sum_and_its_gradient_are_those_of_a_loop(sizes: tuple[int, ...], rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    total = sum(sizes)
    values = torch.randn(total, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(rows, total, generator=generator, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(len(sizes), rows, 5, generator=generator, dtype=torch.float64)
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    loop = torch.stack(
        [w @ h for w, h in zip(torch.split(weights, sizes, 1), torch.split(values, sizes), strict=True)]
    )
    found = segments.segment_weighted_sum(values, weights, offsets, sizes)
    torch.testing.assert_close(found, loop, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(loop, (values, weights), cotangent)
    torch.testing.assert_close(
        torch.autograd.grad(found, (values, weights), cotangent), expected, rtol=1e-12, atol=1e-12
    )


def test_weighted_sum_of_half_precision_is_taken_in_float32() -> None:
    values = torch.full((4096, 1), 1.001, dtype=torch.bfloat16)
    weights = torch.full((1, 4096), 1.0 / 4096)
    found = segments.segment_weighted_sum(values, weights, torch.tensor([0, 4096]), (4096,))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(), values[0].float())


def test_weighted_sum_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shapes \(M, D\) and \(K, M\), got \(3, 2\) and \(1, 4\)"):
        segments.segment_weighted_sum(torch.zeros(3, 2), torch.zeros(1, 4), torch.tensor([0, 3]), (3,))
