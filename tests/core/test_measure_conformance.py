"""The suite that every categorical measure passes by being listed in ``MEASURES``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from entroreg.measures import (
    categorical_entropy,
    group_entropy,
    normalized_entropy,
    renyi_entropy,
    tsallis_entropy,
)

INF = math.inf
GROUPS = 3


def softmax(logits: np.ndarray) -> list[float]:
    weights = [math.exp(z - max(logits)) for z in logits]
    return [w / math.fsum(weights) for w in weights]


def shannon(probs: list[float]) -> float:
    return math.fsum(-p * math.log(p) for p in probs if p > 0)


def tsallis(order: float) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda z, _: (1.0 - math.fsum(p**order for p in softmax(z))) / (order - 1.0)


def renyi(order: float) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda z, _: math.log(math.fsum(p**order for p in softmax(z))) / (1.0 - order)


def group_sum(z: np.ndarray, groups: np.ndarray) -> float:
    probs = softmax(z)
    return shannon([math.fsum(p for p, g in zip(probs, groups, strict=True) if g == c) for c in range(GROUPS)])


def group_mean(z: np.ndarray, groups: np.ndarray) -> float:
    return shannon(softmax(np.array([z[groups == c].mean() for c in range(GROUPS) if (groups == c).any()])))


def group_count(_: np.ndarray, groups: np.ndarray) -> float:
    return shannon([float((groups == c).mean()) for c in range(GROUPS)])


@dataclass(frozen=True)
class Measure:
    """``call(logits, mask, groups, temperature, validate)``; ``oracle`` gets one row of kept logits above -inf."""

    call: Callable[[Tensor, Tensor | None, Tensor, float, bool], Tensor]
    oracle: Callable[[np.ndarray, np.ndarray], float]
    highest: Callable[[int], float]
    differentiable: bool = True
    argument: str = "logits"

    def __call__(
        self,
        logits: Tensor,
        mask: Tensor | None = None,
        groups: Tensor | None = None,
        temperature: float = 1.0,
        validate: bool = False,
    ) -> Tensor:
        if groups is None:
            groups = (torch.arange(logits.shape[-1]) % GROUPS).expand(logits.shape)
        return self.call(logits, mask, groups.to(logits.device), temperature, validate)


def _group(agg: str, oracle: Callable[[np.ndarray, np.ndarray], float], soft: bool = False) -> Measure:
    def call(z: Tensor, mask: Tensor | None, groups: Tensor, temperature: float, validate: bool) -> Tensor:
        if soft:
            groups = torch.nn.functional.one_hot(groups, GROUPS).to(z.dtype)
        count = None if soft else GROUPS
        return group_entropy(z / temperature, groups, mask, agg, num_groups=count, validate=validate)

    return Measure(call, oracle, lambda _: math.log(GROUPS), differentiable=agg != "count", argument="scores")


def _ordered(function: Callable[..., Tensor], order: float, oracle: object, highest: object) -> Measure:
    return Measure(lambda z, m, _, t, v: function(z, order, m, t, validate=v), oracle, highest)  # type: ignore[arg-type]


MEASURES = {
    "categorical": Measure(
        lambda z, m, _, t, v: categorical_entropy(z, m, t, validate=v), lambda z, _: shannon(softmax(z)), math.log
    ),
    "normalized": Measure(
        lambda z, m, _, t, v: normalized_entropy(z, m, t, validate=v),
        lambda z, _: shannon(softmax(z)) / math.log(max(len(z), 2)),
        lambda n: 1.0,
    ),
    "tsallis-0.5": _ordered(tsallis_entropy, 0.5, tsallis(0.5), lambda n: 2.0 * (math.sqrt(n) - 1.0)),
    "tsallis-1": _ordered(tsallis_entropy, 1.0, lambda z, _: shannon(softmax(z)), math.log),
    "tsallis-1.02": _ordered(tsallis_entropy, 1.02, tsallis(1.02), lambda n: (1.0 - n**-0.02) / 0.02),
    "tsallis-2": _ordered(tsallis_entropy, 2.0, tsallis(2.0), lambda n: 1.0 - 1.0 / n),
    "renyi-0.5": _ordered(renyi_entropy, 0.5, renyi(0.5), math.log),
    "renyi-1": _ordered(renyi_entropy, 1.0, lambda z, _: shannon(softmax(z)), math.log),
    "renyi-0.95": _ordered(renyi_entropy, 0.95, renyi(0.95), math.log),
    "renyi-2": _ordered(renyi_entropy, 2.0, renyi(2.0), math.log),
    "renyi-inf": _ordered(renyi_entropy, INF, lambda z, _: -math.log(max(softmax(z))), math.log),
    "group-sum": _group("sum", group_sum),
    "group-mean": _group("mean", group_mean),
    "group-count": _group("count", group_count),
    "group-sum-soft": _group("sum", group_sum, soft=True),
    "group-mean-soft": _group("mean", group_mean, soft=True),
}
# 16 measures share most of their code: 15 examples for each are 240 of each property.
few = settings(max_examples=15)
every = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
smooth = pytest.mark.parametrize(
    "measure",
    [m for m in MEASURES.values() if m.differentiable],
    ids=[name for name, m in MEASURES.items() if m.differentiable],
)


@st.composite
def rows(draw: st.DrawFn, limit: float = 30.0, least: int = 0) -> tuple[Tensor, Tensor]:
    """A row of logits with -inf among them, and a mask."""
    count = draw(st.integers(max(least, 1), 9))
    finite = st.floats(-limit, limit).map(lambda x: round(x, 6))
    logits = draw(st.lists(st.one_of(finite, finite, finite, st.just(-INF)), min_size=count, max_size=count))
    mask = draw(st.lists(st.sampled_from([True, True, False]), min_size=count, max_size=count))
    return torch.tensor(logits, dtype=torch.float64), torch.tensor(mask)


def kept(logits: Tensor, mask: Tensor) -> Tensor:
    return mask & (logits > -INF)


def value_and_gradient(measure: Measure, logits: Tensor, **kwargs: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_(True)
    value = measure(leaf, **kwargs)
    if measure.differentiable:
        value.sum().backward()
    return value.detach(), torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


@every
@few
@given(row=rows())
def test_value_is_the_oracles(measure: Measure, row: tuple[Tensor, Tensor]) -> None:
    logits, mask = row
    keep = kept(logits, mask)
    groups = torch.arange(len(logits)) % GROUPS
    expected = measure.oracle(logits[keep].numpy(), groups[keep].numpy()) if keep.any() else 0.0
    assert float(measure(logits, mask)) == pytest.approx(expected, abs=1e-10, rel=1e-10)


@every
@few
@given(row=rows(limit=1e4))
def test_bounds(measure: Measure, row: tuple[Tensor, Tensor]) -> None:
    logits, mask = row
    value = float(measure(logits, mask))
    assert -1e-12 <= value <= measure.highest(max(int(kept(logits, mask).sum()), 1)) + 1e-12


@every
@few
@given(row=rows(), seed=st.integers(0, 2**31))
def test_permutation_and_shift_change_nothing(measure: Measure, row: tuple[Tensor, Tensor], seed: int) -> None:
    logits, mask = row
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(logits), generator=generator)
    groups = torch.arange(len(logits)) % GROUPS
    expected = measure(logits, mask, groups)
    shift = 100.0 * torch.randn((), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(measure(logits[order], mask[order], groups[order]), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(measure(logits + shift, mask, groups), expected, rtol=1e-8, atol=1e-10)


@every
@few
@given(row=rows())
def test_masked_is_deleted_is_minus_infinity(measure: Measure, row: tuple[Tensor, Tensor]) -> None:
    logits, mask = row
    groups = torch.arange(len(logits)) % GROUPS
    value, gradient = value_and_gradient(measure, logits, mask=mask, groups=groups)
    short, short_gradient = value_and_gradient(measure, logits[mask], groups=groups[mask])
    filled, filled_gradient = value_and_gradient(measure, logits.masked_fill(~mask, -INF), groups=groups)
    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(value, short, **close)
    torch.testing.assert_close(value, filled, **close)
    torch.testing.assert_close(gradient[mask], short_gradient, **close)
    torch.testing.assert_close(gradient, filled_gradient, **close)
    assert torch.equal(gradient[~kept(logits, mask)], torch.zeros_like(gradient[~kept(logits, mask)]))


@every
@few
@given(row=rows(), temperature=st.floats(0.1, 10.0))
def test_temperature_divides_the_logits(measure: Measure, row: tuple[Tensor, Tensor], temperature: float) -> None:
    logits, mask = row
    expected = measure(logits / temperature, mask)
    torch.testing.assert_close(measure(logits, mask, None, temperature), expected, rtol=1e-10, atol=1e-12)


def _batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(2, 4, 5) logits and masks with -inf entries, a row of -inf alone and a row without a kept element."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, 4, 5, generator=generator) > 0.3
    out = torch.rand(2, 4, 5, generator=generator) < 0.2
    out[0, 0], mask[0, 1], mask[1, 2], out[1, 2] = True, False, True, False
    return logits, mask, out


@every
def test_batch_is_a_loop(measure: Measure) -> None:
    logits, mask, out = _batch(0)
    logits = logits.masked_fill(out, -INF)
    batched, gradient = value_and_gradient(measure, logits, mask=mask)
    assert batched.shape == (2, 4)
    for i in range(2):
        for j in range(4):
            value, row_gradient = value_and_gradient(measure, logits[i, j], mask=mask[i, j])
            torch.testing.assert_close(batched[i, j], value, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(gradient[i, j], row_gradient, rtol=1e-12, atol=1e-14)
    strided = logits.mT.contiguous().mT
    assert torch.equal(measure(strided, mask), batched)


@smooth
def test_gradcheck_and_gradgradcheck(measure: Measure) -> None:
    logits, mask, out = _batch(1)
    leaf = logits[0, :, :4].clone().requires_grad_(True)

    def function(z: Tensor) -> Tensor:
        return measure(z.masked_fill(out[0, :, :4], -INF), mask[0, :, :4], None, 0.7)

    assert gradcheck(function, (leaf,))
    assert gradgradcheck(function, (leaf,))


@every
def test_input_is_not_written_to_and_dtype_is_kept(measure: Measure) -> None:
    logits, mask, _ = _batch(2)
    copies = logits.clone(), mask.clone()
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        assert measure(logits.to(dtype), mask).dtype == dtype
    measure(logits, mask)
    assert torch.equal(logits, copies[0])
    assert torch.equal(mask, copies[1])


@every
def test_shapes_are_known_without_values(measure: Measure) -> None:
    logits = torch.zeros(2, 3, 5, device="meta")
    value = measure(logits, torch.ones(2, 3, 5, dtype=torch.bool, device="meta"))
    assert value.device.type == "meta"
    assert value.shape == (2, 3)


def _gradient_is_zero(measure: Measure, logits: Tensor, mask: Tensor | None = None) -> None:
    leaf = logits.clone().requires_grad_(True)
    value = measure(leaf, mask)
    assert torch.equal(value, torch.zeros_like(value))
    assert not torch.signbit(value).any()
    if measure.differentiable:
        (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), leaf, allow_unused=True)
        assert torch.equal(gradient, torch.zeros_like(leaf))
        assert second is None or torch.equal(second, torch.zeros_like(leaf))


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_a_certain_or_empty_row_has_value_and_gradient_zero(measure: Measure, dtype: torch.dtype) -> None:
    one_hot = torch.tensor([[-INF, 3.0, -INF], [1e4, -INF, -INF]], dtype=dtype)
    _gradient_is_zero(measure, one_hot)
    _gradient_is_zero(measure, torch.full((2, 4), -INF, dtype=dtype))
    _gradient_is_zero(measure, torch.ones(2, 4, dtype=dtype), torch.zeros(2, 4, dtype=torch.bool))
    _gradient_is_zero(measure, torch.zeros(3, 1, dtype=dtype))
    _gradient_is_zero(measure, torch.zeros(2, 3, 0, dtype=dtype))
    _gradient_is_zero(measure, torch.zeros(0, 5, dtype=dtype))


@smooth
def test_a_row_without_support_makes_no_nan_even_inside_the_graph(measure: Measure) -> None:
    leaf = torch.tensor([[0.0, -INF, 1.0], [-INF, -INF, -INF], [0.5, 1.0, 2.0]], requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, True, True], [False, False, False]])
    with torch.autograd.set_detect_anomaly(True):  # raises where any gradient on the way is NaN
        measure(leaf, mask).sum().backward()
    assert torch.equal(leaf.grad[1:], torch.zeros(2, 3))


@smooth
def test_an_overwhelming_logit_leaves_nothing(measure: Measure) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=torch.float64)
    value, gradient = value_and_gradient(measure, logits)
    assert torch.equal(value, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(gradient, torch.zeros_like(gradient))


@smooth
@pytest.mark.parametrize("level", [-1e4, 0.0, 1e4])
def test_ties_give_the_largest_value_and_no_gradient(measure: Measure, level: float) -> None:
    value, gradient = value_and_gradient(measure, torch.full((6,), level, dtype=torch.float64))
    assert float(value) == pytest.approx(measure.highest(6), rel=1e-12)
    assert gradient.abs().max() < 1e-12


@every
@pytest.mark.parametrize("poison", [math.nan, INF])
def test_what_is_masked_does_not_leak(measure: Measure, poison: float) -> None:
    logits, mask, _ = _batch(3)
    dirty = logits.masked_fill(~mask, poison)
    value, gradient = value_and_gradient(measure, logits, mask=mask)
    dirty_value, dirty_gradient = value_and_gradient(measure, dirty, mask=mask)
    assert torch.equal(value, dirty_value)
    assert torch.equal(gradient, dirty_gradient)
    measure(dirty, mask, validate=True)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_long_rows_are_accumulated_in_float32(measure: Measure, dtype: torch.dtype) -> None:
    logits = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact, exact_gradient = value_and_gradient(measure, logits.double())
    value, gradient = value_and_gradient(measure, logits)
    # One rounding of the result, and float32 sums (measured below 2e-6); bf16 sums stall at 256.
    unit = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
    assert float(value) == pytest.approx(float(exact), rel=unit + 1e-5)
    if measure.differentiable:
        error = (gradient.double() - exact_gradient).abs()
        smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # fp16's gradients are subnormal
        # float32 leaves p (g - mean g): where g is nearly constant, as Tsallis's of order 2, 7e-7 p is left of it.
        rounding = 1e-4 * exact_gradient.abs().max() + 2e-6 * logits.double().softmax(-1)
        assert (error <= unit * exact_gradient.abs() + smallest + rounding).all()


@every
def test_a_wrong_kind_is_a_type_error(measure: Measure) -> None:
    name, logits = measure.argument, torch.zeros(2, 3)
    groups = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(TypeError, match=rf"^{name} must be floating, got torch.int64: convert with {name}.float"):
        measure(groups * 1, None, groups) if name == "logits" else group_entropy(groups, groups, num_groups=3)
    with pytest.raises(TypeError, match=rf"^{name} must be a torch.Tensor, got list$"):
        measure.call([0.0], None, groups, 1.0, False) if name == "logits" else group_entropy([0.0], groups)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^mask must be a torch.Tensor, got list$"):
        measure(logits, [True])  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^mask must be boolean \(True = keep\), got torch.float32: convert with mask"
    ):
        measure(logits, torch.ones(2, 3))


@every
def test_a_wrong_shape_or_device_is_a_value_error(measure: Measure) -> None:
    name, logits = measure.argument, torch.zeros(2, 3)
    with pytest.raises(ValueError, match=rf"^{name} must have at least 1 dimension\(s\), got shape \(\)$"):
        measure(torch.tensor(0.0), None, torch.tensor(0))
    with pytest.raises(ValueError, match=rf"^mask must have the shape of {name}, \(2, 3\), got \(3,\)$"):
        measure(logits, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=rf"^mask must be on the device of {name}, cpu, got meta$"):
        measure(logits, torch.ones(2, 3, dtype=torch.bool, device="meta"))


@every
@pytest.mark.parametrize(("poison", "shown"), [(math.nan, "nan"), (INF, "inf")])
def test_validate_names_the_first_bad_value(measure: Measure, poison: float, shown: str) -> None:
    logits = torch.zeros(2, 3)
    logits[0, 0], logits[1, 2] = -INF, poison
    with pytest.raises(
        ValueError,
        match=rf"^{measure.argument} must be finite or -inf, got {shown} at index \(1, 2\): look for an overflow",
    ):
        measure(logits, validate=True)
    measure(logits[:1], validate=True)


@pytest.mark.parametrize("measure", [m for m in MEASURES.values() if m.argument == "logits"])
def test_temperature_must_be_a_positive_number(measure: Measure) -> None:
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match=rf"^temperature must be finite and above 0, got {bad}$"):
            measure(torch.zeros(3), temperature=bad)
    for bad in (math.nan, INF):
        with pytest.raises(ValueError, match=rf"^temperature must be finite, got {bad}$"):
            measure(torch.zeros(3), temperature=bad)
    for kind in (True, "1", torch.tensor(1.0)):
        with pytest.raises(TypeError, match=rf"^temperature must be a number, got {type(kind).__name__}$"):
            measure(torch.zeros(3), temperature=kind)  # type: ignore[arg-type]
