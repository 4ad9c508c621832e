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

from entroreg.measures import mutual_information


def _logits(seed: int, *shape: int) -> Tensor:
    return 3.0 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 2**31), members=st.integers(1, 5), classes=st.integers(1, 6))
def test_it_is_the_difference_of_entropies(seed: int, members: int, classes: int) -> None:
    logits = _logits(seed, 2, members, classes)
    probs = scipy.special.softmax(logits.numpy() / 1.5, axis=-1)
    entropy_of_mean = scipy.stats.entropy(probs.mean(axis=1), axis=-1)
    mean_of_entropies = scipy.stats.entropy(probs, axis=-1).mean(axis=-1)
    found = mutual_information(logits, temperature=1.5)
    assert found.numpy() == pytest.approx(entropy_of_mean - mean_of_entropies, abs=1e-12)
    assert float(found.min()) >= -1e-15
    assert float(found.max()) <= min(math.log(members), math.log(classes)) + 1e-12
    order = torch.randperm(members, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(mutual_information(logits[:, order], temperature=1.5), found, atol=1e-14)


@given(seed=st.integers(0, 2**31))
def test_masked_elements_and_members_count_as_deleted(seed: int) -> None:
    logits = _logits(seed, 4, 6)
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[:, 2] = False
    mask[3] = False
    kept = logits[:3][:, [0, 1, 3, 4, 5]]
    assert torch.allclose(mutual_information(logits, mask), mutual_information(kept), atol=1e-14)
    assert torch.allclose(
        mutual_information(torch.where(mask, logits, -torch.inf)), mutual_information(kept), atol=1e-14
    )


def test_members_that_agree_share_nothing_and_digits_are_kept() -> None:
    assert abs(float(mutual_information(_logits(0, 1, 5).expand(7, 5)))) < 1e-15
    small = torch.tensor([[1e-6, 0.0], [-1e-6, 0.0]])  # I = eps^2 / 8 to second order, below float32's eps of H
    assert float(mutual_information(small.double())) == pytest.approx(1e-12 / 8, rel=1e-3)


def test_extremes() -> None:
    assert float(mutual_information(torch.full((2, 3), -torch.inf))) == 0.0
    assert float(mutual_information(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]))) == pytest.approx(math.log(2))
    one_hot = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]], requires_grad=True)
    mutual_information(one_hot).backward()
    assert one_hot.grad is not None
    assert bool(one_hot.grad.isfinite().all())


def test_gradients() -> None:
    logits = _logits(0, 2, 3, 4).requires_grad_()
    assert gradcheck(mutual_information, (logits,))
    assert gradgradcheck(mutual_information, (logits,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    logits = _logits(0, 5, 3, 4).to(dtype)
    found = mutual_information(logits)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), mutual_information(logits.double()), rtol=torch.finfo(dtype).eps)


def test_compiled_is_equal() -> None:
    logits = _logits(0, 2, 3, 4)
    compiled = torch.compile(mutual_information, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(logits), mutual_information(logits), atol=1e-14)


def test_bad_input() -> None:
    logits = np.zeros(3)
    with pytest.raises(TypeError, match=r"^logits must be a torch.Tensor, got ndarray$"):
        mutual_information(logits)  # type: ignore[arg-type]
    for call, message in (
        (lambda: mutual_information(torch.zeros(3)), r"^logits must have at least 2 dimension"),
        (
            lambda: mutual_information(torch.zeros(2, 3), temperature=0.0),
            r"^temperature must be finite",
        ),
        (
            lambda: mutual_information(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool)),
            r"^mask must have the shape",
        ),
        (
            lambda: mutual_information(torch.full((2, 3), torch.nan), validate=True),
            r"^logits must be finite or -inf",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^mask must be boolean"):
        mutual_information(torch.zeros(2, 3), torch.ones(2, 3))
