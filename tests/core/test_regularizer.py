from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg import EntropyRegularizer, penalties
from entroreg.controllers import Dual, Fixed, PerStateDual, Scheduled
from entroreg.schedules import LinearSchedule

SQUARED = partial(penalties.squared, target=0.2)
BAND = partial(penalties.band, target=0.2, margin=0.1)
HINGE = partial(penalties.hinge, floor=0.5)
PENALTIES = {"squared": SQUARED, "band": BAND, "hinge": HINGE}


@given(entropies=st.lists(st.floats(-3, 3), min_size=1, max_size=6), alpha=st.floats(0, 5), data=st.data())
def test_loss_is_alpha_times_the_mean_penalty(entropies: list[float], alpha: float, data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(entropies), max_size=len(entropies)))
    tensor, mask = torch.tensor(entropies, dtype=torch.float64), torch.tensor(keep)
    alpha = float(torch.tensor(alpha))  # coefficients are float32
    kept = [h for h, k in zip(entropies, keep, strict=True) if k]
    mean = math.fsum(kept) / max(len(kept), 1)
    for sign, direction in (("maximize", -1.0), ("minimize", 1.0)):
        output = EntropyRegularizer(Fixed(alpha), sign=sign)(tensor, mask)
        assert float(output.loss) == pytest.approx(direction * alpha * mean, abs=1e-9)
        assert float(output.entropy) == pytest.approx(mean, abs=1e-9)
    expected = alpha * math.fsum((h - 0.2) ** 2 for h in kept) / max(len(kept), 1)
    assert float(EntropyRegularizer(Fixed(alpha), SQUARED)(tensor, mask).loss) == pytest.approx(expected, abs=1e-9)


def test_descending_the_loss_moves_entropy_as_the_sign_says() -> None:
    for sign, expected in (("maximize", -0.2), ("minimize", 0.2)):
        entropy = torch.tensor([[1.0, 2.0]], requires_grad=True)
        output = EntropyRegularizer(Fixed(0.4), sign=sign)(entropy)
        output.loss.backward()
        assert entropy.grad.flatten().tolist() == pytest.approx([expected, expected])
        assert not output.entropy.requires_grad
        assert output.loss.shape == output.entropy.shape == ()


def test_alpha_is_not_in_the_graph_and_follows_its_controller() -> None:
    dual = Dual(-1.0, initial=0.5, learning_rate=0.1)
    regularizer = EntropyRegularizer(dual, sign="maximize")
    entropy = torch.tensor([-2.0], requires_grad=True)
    regularizer(entropy).loss.backward()
    assert dual.log_alpha.grad is None
    assert entropy.grad.item() == pytest.approx(-0.5)
    dual.update(torch.tensor(-2.0))
    assert float(regularizer(entropy.detach()).loss) == pytest.approx(0.5 * math.exp(0.1) * 2.0)
    scheduled = Scheduled(LinearSchedule(1.0, 0.0, steps=2))
    falling = EntropyRegularizer(scheduled, sign="minimize")
    assert float(falling(torch.ones(2)).loss) == 1.0
    scheduled.update(torch.ones(2))
    assert float(falling(torch.ones(2)).loss) == 0.5


@pytest.mark.parametrize("penalty", [penalties.linear, *PENALTIES.values()], ids=["linear", *PENALTIES])
def test_a_mask_that_keeps_nothing_and_an_empty_batch_give_0(penalty: object) -> None:
    sign = "maximize" if penalty is penalties.linear else None
    regularizer = EntropyRegularizer(Fixed(1.0), penalty, sign)  # type: ignore[arg-type]
    for entropy, mask in (
        (torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)),
        (torch.full((3,), math.nan), torch.zeros(3, dtype=torch.bool)),
        (torch.empty(0), None),
        (torch.empty(0), torch.empty(0, dtype=torch.bool)),
    ):
        leaf = entropy.clone().requires_grad_(True)
        output = regularizer(leaf, mask)
        output.loss.backward()
        assert output.loss.item() == 0.0
        assert output.entropy.item() == 0.0
        assert torch.equal(leaf.grad, torch.zeros_like(entropy))


@pytest.mark.parametrize("penalty", [penalties.linear, *PENALTIES.values()], ids=["linear", *PENALTIES])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_masked_is_deleted_whatever_it_holds(penalty: object, poison: float) -> None:
    sign = "minimize" if penalty is penalties.linear else None
    regularizer = EntropyRegularizer(Fixed(0.7), penalty, sign)  # type: ignore[arg-type]
    mask = torch.tensor([True, False, True])
    leaf = torch.tensor([0.1, poison, 2.0], requires_grad=True)
    short = torch.tensor([0.1, 2.0], requires_grad=True)
    output, expected = regularizer(leaf, mask), regularizer(short)
    torch.testing.assert_close(output, expected)
    output.loss.backward()
    expected.loss.backward()
    torch.testing.assert_close(leaf.grad[mask], short.grad)
    assert leaf.grad[1] == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_means_of_many_halves_are_taken_in_float32(dtype: torch.dtype, masked: bool) -> None:
    entropy = torch.full((100_000,), 5.0, dtype=dtype)
    mask = torch.ones(100_000, dtype=torch.bool) if masked else None
    output = EntropyRegularizer(Fixed(0.1), sign="minimize")(entropy, mask)
    assert output.loss.dtype == output.entropy.dtype == dtype
    assert float(output.loss) == 0.5  # not 0.1 rounded to bf16 times 5, and no overflow of the sum
    assert float(output.entropy) == 5.0


@pytest.mark.parametrize(("bound", "sign"), [("lower", "maximize"), ("upper", "minimize")])
def test_a_dual_needs_the_linear_penalty_and_the_sign_of_its_bound(bound: str, sign: str) -> None:
    dual = Dual(0.5, bound=bound)
    assert EntropyRegularizer(dual, sign=sign).sign == sign
    other = "minimize" if sign == "maximize" else "maximize"
    message = (
        rf"^sign must be '{sign}' for a Dual with bound='{bound}', got '{other}': otherwise the coefficient pushes"
    )
    with pytest.raises(ValueError, match=message):
        EntropyRegularizer(dual, sign=other)
    with pytest.raises(
        ValueError, match=r"^a Dual controller needs the linear penalty: its price is the multiplier"
    ):
        EntropyRegularizer(dual, SQUARED)


def test_raises() -> None:
    for kind in (0.1, None, PerStateDual(torch.nn.Linear(2, 1), 0.0)):
        with pytest.raises(
            TypeError, match=rf"^controller must be a Controller such as Fixed\(0.1\), got {type(kind).__name__}"
        ):
            EntropyRegularizer(kind, sign="maximize")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^penalty must be callable, got str$"):
        EntropyRegularizer(Fixed(0.1), "linear", "maximize")  # type: ignore[arg-type]
    for sign in (None, "max", ""):
        with pytest.raises(ValueError, match=r"^sign must be one of \['maximize', 'minimize'\], got "):
            EntropyRegularizer(Fixed(0.1), sign=sign)
    with pytest.raises(ValueError, match=r"^sign must be None for a penalty other than linear, got 'maximize'$"):
        EntropyRegularizer(Fixed(0.1), SQUARED, "maximize")
    regularizer = EntropyRegularizer(Fixed(0.1), sign="maximize")
    with pytest.raises(TypeError, match=r"^entropy must be floating, got torch.int64"):
        regularizer(torch.tensor([1]))
    with pytest.raises(TypeError, match=r"^mask must be boolean"):
        regularizer(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"^mask must have the shape of entropy, \(2,\), got \(2, 1\)$"):
        regularizer(torch.zeros(2), torch.ones(2, 1, dtype=torch.bool))
