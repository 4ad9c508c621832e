from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from entroreg.controllers import Dual, alpha_loss, log_alpha_loss
from entroreg.schedules import LinearSchedule, to_json


def _entropies(seed: int, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, generator=generator) - 1.0 for _ in range(count)]


def _adam(
    entropies: list[np.ndarray], target: Callable[[int], float], sign: float, loss: str, rate: float, initial: float
) -> list[float]:
    """Alpha after each step of Adam on J(l) = -l v or -exp(l) v, v = sign (target - H), in float64."""
    log_alpha, first, second, history = math.log(initial), 0.0, 0.0, []
    for t, entropy in enumerate(entropies, start=1):
        violation = float(np.mean(sign * (target(t - 1) - entropy)))
        gradient = -violation * (math.exp(log_alpha) if loss == "alpha" else 1.0)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        log_alpha -= rate * (first / (1 - 0.9**t)) / (math.sqrt(second / (1 - 0.999**t)) + 1e-8)
        history.append(math.exp(log_alpha))
    return history


@pytest.mark.parametrize("loss", ["log_alpha", "alpha"])
@pytest.mark.parametrize(("bound", "sign"), [("lower", 1.0), ("upper", -1.0)])
@pytest.mark.parametrize("scheduled", [False, True])
def test_steps_are_adams(loss: str, bound: str, sign: float, scheduled: bool) -> None:
    target = LinearSchedule(-2.0, 0.0, steps=6) if scheduled else -1.2
    dual = Dual(target, bound=bound, loss=loss, learning_rate=0.03, initial=0.5)
    entropies = _entropies(0, 10)
    at = target if callable(target) else lambda step: -1.2
    expected = _adam([h.double().numpy() for h in entropies], at, sign, loss, 0.03, 0.5)
    before = 0.5
    for step, (entropy, after) in enumerate(zip(entropies, expected, strict=True)):
        metrics = dual.update(entropy)
        assert float(metrics["alpha"]) == pytest.approx(before, rel=1e-5)  # the value before its own step
        assert float(metrics["target_entropy"]) == pytest.approx(at(step))
        assert float(metrics["entropy"]) == pytest.approx(float(entropy.mean()))
        violation = sign * (at(step) - float(entropy.mean()))
        weight = before if loss == "alpha" else math.log(before)
        assert float(metrics["dual_loss"]) == pytest.approx(-weight * violation, rel=1e-4, abs=1e-5)
        assert not any(value.requires_grad for value in metrics.values())
        assert float(dual.value) == pytest.approx(after, rel=1e-5)
        before = after


@pytest.mark.parametrize("loss", ["log_alpha", "alpha"])
@pytest.mark.parametrize(
    ("bound", "entropy", "rises"),
    [("lower", -2.0, True), ("lower", 0.0, False), ("upper", 0.0, True), ("upper", -2.0, False)],
)
def test_alpha_rises_when_the_bound_is_violated(loss: str, bound: str, entropy: float, rises: bool) -> None:
    dual = Dual(-1.0, bound=bound, loss=loss, learning_rate=0.1)
    dual.update(torch.tensor(entropy))
    assert float(dual.value) == pytest.approx(math.exp(0.1 if rises else -0.1), rel=1e-5)


@given(log_alpha=st.floats(-5, 3), violations=st.lists(st.floats(-4, 4), min_size=1, max_size=5))
def test_losses_against_numpy(log_alpha: float, violations: list[float]) -> None:
    scalar, v = torch.tensor([log_alpha], dtype=torch.float64), torch.tensor(violations, dtype=torch.float64)
    mean = math.fsum(violations) / len(violations)
    assert float(log_alpha_loss(scalar, v)) == pytest.approx(-log_alpha * mean, abs=1e-10)
    assert float(alpha_loss(scalar, v)) == pytest.approx(-math.exp(log_alpha) * mean, abs=1e-9)


@pytest.mark.parametrize("loss", [log_alpha_loss, alpha_loss])
def test_loss_gradients(loss: Callable[..., torch.Tensor]) -> None:
    violation = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    leaf = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: loss(x, violation.detach()), (leaf,))
    assert gradgradcheck(lambda x: loss(x, violation.detach()).square(), (leaf,))
    loss(leaf, violation).backward()
    assert violation.grad is None


def test_clamps_are_projections_and_are_left_again() -> None:
    dual = Dual(-1.0, initial=0.5, learning_rate=0.2, minimum=0.25, maximum=0.75)
    for _ in range(20):
        dual.update(torch.tensor(-5.0))
        assert float(dual.value) <= 0.75 * (1 + 1e-6)
    assert float(dual.value) == pytest.approx(0.75, rel=1e-6)
    for _ in range(40):
        dual.update(torch.tensor(4.0))
    assert float(dual.value) == pytest.approx(0.25, rel=1e-6)
    for _ in range(40):
        dual.update(torch.tensor(-5.0))
    assert float(dual.value) == pytest.approx(0.75, rel=1e-6)


def test_own_learning_rate_and_steps_of_any_entropy_dtype() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        dual = Dual(0.0, learning_rate=0.01)
        metrics = dual.update(torch.full((3,), -1.0, dtype=dtype))
        assert dual.log_alpha.dtype == dual.value.dtype == torch.float32
        assert metrics["dual_loss"].dtype == torch.promote_types(dtype, torch.float32)
        assert dual.value.shape == ()
        assert float(dual.value) == pytest.approx(math.exp(0.01), rel=1e-5)
    assert float(Dual(0.0, initial=0.2).value) == pytest.approx(0.2)


def test_log_alpha_is_float32_whatever_the_default() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert Dual(0.0).log_alpha.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_mean_of_many_halves_does_not_overflow() -> None:
    dual = Dual(0.0, learning_rate=0.1)
    metrics = dual.update(torch.full((70_000,), 8.0, dtype=torch.float16))
    assert float(metrics["dual_loss"]) == 0.0
    assert float(metrics["entropy"]) == 8.0
    assert float(dual.value) == pytest.approx(math.exp(-0.1), rel=1e-5)


def test_alpha_stands_in_no_graph_and_entropy_gets_no_gradient() -> None:
    dual = Dual(0.0)
    entropy = torch.zeros(3, requires_grad=True)
    value = dual.value
    metrics = dual.update(entropy)
    assert not value.requires_grad
    assert entropy.grad is None
    assert not metrics["entropy"].requires_grad


def _continue(dual: Dual, count: int, seed: int) -> list[float]:
    return [float(dual.update(h)["alpha"]) for h in _entropies(seed, count)] + [float(dual.value)]


def _dual(**changes: Any) -> Dual:
    settings: dict[str, Any] = {"learning_rate": 0.05, "maximum": 1.5, **changes}
    return Dual(LinearSchedule(-2.0, 0.0, steps=20), **settings)


def test_a_reloaded_dual_continues_bit_for_bit() -> None:
    dual = _dual()
    _continue(dual, 7, seed=1)
    state = dual.state_dict()
    kept = copy.deepcopy(state)
    expected = _continue(dual, 8, seed=2)
    for snapshot in (state, kept):  # the live controller must not have written into its snapshot
        fresh = _dual()
        tensor = fresh.log_alpha
        fresh.load_state_dict(snapshot)
        assert fresh.log_alpha is tensor
        assert fresh.optimizer.param_groups[0]["params"][0] is tensor
        assert _continue(fresh, 8, seed=2) == expected  # nor the fresh one, for the second round
    dual.load_state_dict(state)
    assert _continue(dual, 8, seed=2) == expected
    assert dual.to("cpu") is dual


def test_state_keys_must_fit() -> None:
    dual = Dual(0.0)
    state = dual.state_dict()
    assert set(state) == {"log_alpha", "optimizer", "step"}
    with pytest.raises(
        ValueError, match=r"^state of Dual does not fit: missing keys \['step'\], unknown keys \['extra'\]$"
    ):
        dual.load_state_dict({"log_alpha": 0, "optimizer": {}, "extra": 1})


def test_an_unreachable_target_is_refused_at_once_and_later() -> None:
    dual = Dual(0.8)
    message = (
        r"^target entropy must be below 0.6931 nats, the largest entropy any policy has here, got 0.8: alpha would"
    )
    with pytest.raises(ValueError, match=message):
        dual.limit_entropy(-math.inf, math.log(2.0))
    with pytest.raises(
        ValueError, match=r"^target entropy must be above 0.0000 nats, the smallest entropy .* got -1: the"
    ):
        Dual(-1.0, bound="upper").limit_entropy(0.0, 1.0)
    Dual(-1.0, bound="lower").limit_entropy(0.0, 1.0)  # always satisfied, and so harmless
    later = Dual(lambda step: 0.5 * step, learning_rate=0.1)  # code: nobody knows where it leads
    later.limit_entropy(-math.inf, 1.0)
    for _ in range(2):
        later.update(torch.tensor(0.0))
    state = later.state_dict()
    with pytest.raises(ValueError, match=r"^target entropy must be below 1.0000 nats, .* got 1: alpha would grow"):
        later.update(torch.tensor(0.0))
    assert later.problem.step == state["step"] == 2
    assert torch.equal(later.log_alpha.detach(), state["log_alpha"])


def test_raises() -> None:
    with pytest.raises(ValueError, match=r"^bound must be one of \['lower', 'upper'\], got 'above'$"):
        Dual(0.0, bound="above")
    with pytest.raises(ValueError, match=r"^loss must be one of \['alpha', 'log_alpha'\], got 'l2'$"):
        Dual(0.0, loss="l2")
    for bad in (math.nan, math.inf, lambda step: -math.inf):
        with pytest.raises(ValueError, match=r"^target entropy must be finite, got "):
            Dual(bad)
    for kind in ("auto", None, lambda step: "x"):
        with pytest.raises(TypeError, match=r"^target entropy must be a number, got (str|NoneType)$"):
            Dual(kind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^minimum must not exceed maximum, got 2.0 and 1.0$"):
        Dual(0.0, minimum=2.0, maximum=1.0)
    for name in ("minimum", "maximum", "initial", "learning_rate"):
        with pytest.raises(ValueError, match=rf"^{name} must be finite and above 0, got 0.0$"):
            Dual(0.0, **{name: 0.0})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"^{name} must be a number, got str$"):
            Dual(0.0, **{name: "1"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^initial must be in \[0.1, 0.5\], got 1.0$"):
        Dual(0.0, minimum=0.1, maximum=0.5)
    with pytest.raises(ValueError, match=r"^initial must be finite and at least 2, got 1.0$"):
        Dual(0.0, minimum=2.0)
    with pytest.raises(TypeError, match=r"^entropy must be floating, got torch.int64"):
        Dual(0.0).update(torch.tensor(1))
    with pytest.raises(TypeError, match=r"^entropy must be a torch.Tensor, got float$"):
        Dual(0.0).update(1.0)  # type: ignore[arg-type]


def test_a_schedule_that_ends_out_of_reach_is_refused_at_once() -> None:
    alpha = Dual(LinearSchedule(-1.0, 3.0, steps=100))
    with pytest.raises(ValueError, match=r"must be below 0\.6931 nats"):
        alpha.limit_entropy(-math.inf, math.log(2.0))


def test_numpy_numbers_are_numbers() -> None:
    assert type(Dual(np.int64(-3)).problem.target) is float
    schedule = LinearSchedule(np.float32(0.5), -np.prod((2, 3)), steps=np.int64(4))
    assert to_json(schedule) == {"kind": "linear", "start": 0.5, "end": -6.0, "steps": 4}
    assert json.loads(json.dumps(to_json(schedule))) == to_json(schedule)
    assert to_json(np.int64(-3)) == -3.0
