"""The losses against NumPy, torch's own, and the authors' formulas by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torch.nn.functional import softmax as torch_softmax

from entroreg.vision.distillation import ard_loss, divergence, mtard_losses, rslad_loss, trades_loss


def _logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 2, 1, 4])
CLEAN, ADVERSARIAL, TEACHER = (_logits(seed, 4, 5) for seed in range(3))


def _kl(target: Tensor, logits: Tensor) -> NDArray[np.float64]:
    return np.asarray(entropy(softmax(target.numpy(), axis=-1), softmax(logits.numpy(), axis=-1), axis=-1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 6), shift=st.floats(-100, 100))
def test_divergence_against_scipy(seed: int, classes: int, shift: float) -> None:
    logits, target = _logits(seed, 2, 3, classes), _logits(seed + 1, 2, 3, classes)
    found = divergence(logits + shift, target - shift)
    np.testing.assert_allclose(found.numpy(), _kl(target, logits), atol=1e-9)
    assert (found >= -1e-9).all()
    assert torch.allclose(divergence(logits, logits), torch.zeros(2, 3, dtype=torch.float64))
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(divergence(logits[..., order], target[..., order]), divergence(logits, target))


def test_divergence_at_its_ends() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 1e4]], requires_grad=True)
    target = torch.tensor([[1e4, -1e4], [0.0, -math.inf]], requires_grad=True)
    found = divergence(logits, target)
    torch.testing.assert_close(found, torch.tensor([math.log(2.0), 1e4]))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 0.5], [-1.0, 1.0]]))
    assert target.grad is not None
    assert target.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_divergence_in_low_precision(dtype: torch.dtype) -> None:
    logits, target = ADVERSARIAL.to(dtype), TEACHER.to(dtype)
    exact = divergence(logits.double(), target.double())
    error = {torch.float32: 1e-6, torch.bfloat16: 0.1}[dtype]
    assert ((divergence(logits, target).double() - exact).abs() <= error * (1 + exact)).all()


def test_divergence_gradients() -> None:
    both = (CLEAN.clone().requires_grad_(), TEACHER.clone().requires_grad_())
    assert torch.autograd.gradcheck(divergence, both)
    assert torch.autograd.gradgradcheck(divergence, both)


def test_divergence_compiles() -> None:
    compiled = torch.compile(divergence, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(CLEAN, TEACHER), divergence(CLEAN, TEACHER))


def test_trades_against_the_authors_formula() -> None:
    found = trades_loss(CLEAN, ADVERSARIAL, LABELS, beta=2.5)
    robust = kl_div(log_softmax(ADVERSARIAL, 1), torch_softmax(CLEAN, 1), reduction="sum") / 4
    torch.testing.assert_close(found, cross_entropy(CLEAN, LABELS) + 2.5 * robust)
    torch.testing.assert_close(trades_loss(CLEAN, ADVERSARIAL, LABELS), cross_entropy(CLEAN, LABELS) + 6 * robust)


def test_trades_has_a_gradient_through_both_predictions() -> None:
    assert torch.autograd.gradcheck(
        lambda clean, adversarial: trades_loss(clean, adversarial, LABELS),
        (CLEAN.clone().requires_grad_(), ADVERSARIAL.clone().requires_grad_()),
    )


def test_ard_against_the_authors_formula() -> None:
    def expected(alpha: float, tau: float) -> Tensor:
        taught = kl_div(log_softmax(ADVERSARIAL / tau, 1), torch_softmax(TEACHER / tau, 1), reduction="none").mean()
        return alpha * tau * tau * taught + (1 - alpha) * cross_entropy(CLEAN, LABELS)

    torch.testing.assert_close(ard_loss(CLEAN, ADVERSARIAL, TEACHER, LABELS), expected(1.0, 30.0))
    found = ard_loss(CLEAN, ADVERSARIAL, TEACHER, LABELS, alpha=0.3, temperature=4.0)
    torch.testing.assert_close(found, expected(0.3, 4.0))


def test_rslad_against_numpy() -> None:
    found = rslad_loss(CLEAN, ADVERSARIAL, TEACHER)
    expected = 5 / 6 * _kl(TEACHER, ADVERSARIAL).mean() / 5 + 1 / 6 * _kl(TEACHER, CLEAN).mean() / 5
    assert found.item() == pytest.approx(expected)


def test_mtard_against_the_authors_code_without_their_epsilon() -> None:
    temperatures = torch.tensor([1.0, 2.5], dtype=torch.float64)
    found = mtard_losses([CLEAN, ADVERSARIAL], [TEACHER, ADVERSARIAL], temperatures)
    for loss, student, teacher, tau in zip(
        found, (CLEAN, ADVERSARIAL), (TEACHER, ADVERSARIAL), (1.0, 2.5), strict=True
    ):
        a, b = log_softmax(student, 1), torch_softmax(teacher / tau, 1)
        assert loss.item() == pytest.approx(float(torch.mean(-a * b + torch.log(b) * b)))
    # an epsilon inside their logarithm, 1e-5, is all that is left out
    theirs = torch.mean(
        -log_softmax(CLEAN, 1) * torch_softmax(TEACHER, 1)
        + torch.log(torch_softmax(TEACHER, 1) + 1e-5) * torch_softmax(TEACHER, 1)
    )
    assert found[0].item() == pytest.approx(theirs.item(), abs=1e-4)


def test_a_float64_temperature_keeps_float32() -> None:
    found = mtard_losses([CLEAN.float()], [TEACHER.float()], torch.tensor([2.0], dtype=torch.float64))
    assert found[0].dtype == torch.float32


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.mark.parametrize(
    "loss",
    [
        lambda c, a, t: ard_loss(c, a, t, LABELS, alpha=0.5),
        rslad_loss,
        lambda c, a, t: mtard_losses([c, a], [t, t], torch.tensor([1.5, 1.0]))[0],
        lambda c, a, t: mtard_losses([c, a], [t, t], torch.tensor([1.5, 1.0]))[1],
    ],
)
def test_students_learn_and_teachers_do_not(loss: Loss) -> None:
    clean, adversarial, teacher = (x.clone().requires_grad_() for x in (CLEAN, ADVERSARIAL, TEACHER))
    loss(clean, adversarial, teacher).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None
    assert torch.autograd.gradcheck(
        lambda c, a: loss(c, a, TEACHER), (CLEAN.clone().requires_grad_(), ADVERSARIAL.clone().requires_grad_())
    )


@pytest.mark.parametrize("loss", [rslad_loss, lambda c, a, t: mtard_losses([a], [t], torch.ones(1))[0]])
def test_a_student_that_agrees_has_no_loss(loss: Loss) -> None:
    assert loss(TEACHER, TEACHER, TEACHER).item() == pytest.approx(0.0, abs=1e-12)


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"logits must be floating, got torch.int64"):
        divergence(torch.zeros(2, dtype=torch.int64), torch.zeros(2))
    with pytest.raises(TypeError, match=r"target_logits must be floating, got torch.int64"):
        divergence(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"logits must have the shape of target_logits, \(4, 5\), got \(4, 4\)"):
        rslad_loss(CLEAN, ADVERSARIAL[:, :4], TEACHER)
    with pytest.raises(ValueError, match=r"beta must be finite and at least 0, got -1"):
        trades_loss(CLEAN, ADVERSARIAL, LABELS, beta=-1.0)
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\], got 2"):
        rslad_loss(CLEAN, ADVERSARIAL, TEACHER, share=2.0)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 1.5"):
        ard_loss(CLEAN, ADVERSARIAL, TEACHER, LABELS, alpha=1.5)
    with pytest.raises(ValueError, match="temperature must be finite and above 0, got 0"):
        ard_loss(CLEAN, ADVERSARIAL, TEACHER, LABELS, temperature=0.0)
    with pytest.raises(ValueError, match=r"clean must have the shape of adversarial"):
        ard_loss(CLEAN[:2], ADVERSARIAL, TEACHER, LABELS)
    with pytest.raises(ValueError, match="students, teachers and temperatures must be as many, got 1, 1 and 2"):
        mtard_losses([CLEAN], [TEACHER], torch.ones(2))
