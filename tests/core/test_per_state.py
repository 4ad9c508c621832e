from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from entroreg.controllers import Controller, PerStateDual
from entroreg.schedules import LinearSchedule

FEATURES = torch.eye(3)


def _table(initial: list[float]) -> nn.Linear:
    """log alpha of each one-hot state as the weight of a linear layer: a table."""
    layer = nn.Linear(len(initial), 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([initial]).log())
    return layer


def _alphas(dual: PerStateDual) -> list[float]:
    return dual.values(FEATURES).tolist()


@pytest.mark.parametrize("loss", ["log_alpha", "alpha"])
@pytest.mark.parametrize(("bound", "sign"), [("lower", 1.0), ("upper", -1.0)])
def test_steps_are_adams_per_state(loss: str, bound: str, sign: float) -> None:
    dual = PerStateDual(_table([0.5, 1.0, 2.0]), -1.0, bound=bound, loss=loss, learning_rate=0.05)
    log_alpha, first, second = np.log([0.5, 1.0, 2.0]), np.zeros(3), np.zeros(3)
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 7):
        entropy = torch.randn(3, generator=generator)
        before = np.exp(log_alpha).mean()
        violation = sign * (-1.0 - entropy.double().numpy())
        weight = np.exp(log_alpha) if loss == "alpha" else log_alpha
        expected_loss = -(weight * violation).mean()
        gradient = -violation / 3.0 * (np.exp(log_alpha) if loss == "alpha" else 1.0)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        log_alpha = log_alpha - 0.05 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        metrics = dual.update(entropy[:, None] if t % 2 else entropy, FEATURES)
        assert float(metrics["alpha"]) == pytest.approx(before, rel=1e-5)
        assert float(metrics["dual_loss"]) == pytest.approx(expected_loss, rel=1e-4, abs=1e-5)
        assert float(metrics["entropy"]) == pytest.approx(float(entropy.mean()), rel=1e-5)
        assert float(metrics["target_entropy"]) == -1.0
        assert _alphas(dual) == pytest.approx(np.exp(log_alpha).tolist(), rel=1e-5)


def test_each_state_goes_its_own_way() -> None:
    dual = PerStateDual(_table([1.0, 1.0, 1.0]), 0.0, learning_rate=0.1)
    dual.update(torch.tensor([-1.0, 0.0, 1.0]), FEATURES)
    assert _alphas(dual) == pytest.approx([math.exp(0.1), 1.0, math.exp(-0.1)], rel=1e-5)


def test_clamps_hold_the_outward_push_only() -> None:
    table = _table([0.1, 0.1, 4.0])  # two below the minimum, one above the maximum
    dual = PerStateDual(table, 0.0, learning_rate=0.1, minimum=0.5, maximum=2.0)
    assert _alphas(dual) == pytest.approx([0.5, 0.5, 2.0])
    metrics = dual.update(torch.tensor([1.0, -1.0, -1.0]), FEATURES)
    assert float(metrics["alpha"]) == pytest.approx(1.0)
    # Down, up and up are wanted: the first and the last point outward and stay, the second comes back.
    expected = torch.tensor([[0.1, 0.1 * math.exp(0.1), 4.0]]).log()
    torch.testing.assert_close(table.weight.detach(), expected)
    for _ in range(80):
        dual.update(torch.tensor([1.0, -1.0, 1.0]), FEATURES)
    assert _alphas(dual) == pytest.approx([0.5, 2.0, 0.5], rel=1e-5)


def test_all_states_held_is_a_step_of_zero() -> None:
    table = _table([4.0, 4.0, 4.0])
    dual = PerStateDual(table, 0.0, learning_rate=0.1, maximum=2.0)
    before = table.weight.detach().clone()
    dual.update(torch.tensor([-1.0, -1.0, -1.0]), FEATURES)
    assert torch.equal(table.weight.detach(), before)


def test_alpha_is_float32_and_stands_in_no_graph() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        dual = PerStateDual(_table([1.0, 2.0, 3.0]).to(dtype), 0.0)
        values = dual.values(FEATURES.to(dtype))
        assert values.dtype == torch.float32
        assert not values.requires_grad
        entropy = torch.zeros(3, dtype=dtype, requires_grad=True)
        metrics = dual.update(entropy, FEATURES.to(dtype))
        assert entropy.grad is None
        assert not any(value.requires_grad for value in metrics.values())


def test_a_module_may_return_one_dimension() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = nn.Parameter(torch.zeros(()))

        def forward(self, features: Tensor) -> Tensor:
            return self.level.expand(len(features))

    assert PerStateDual(Flat(), 0.0).values(torch.zeros(4, 7)).tolist() == [1.0] * 4


def test_a_reloaded_dual_continues_bit_for_bit() -> None:
    def fresh() -> PerStateDual:
        return PerStateDual(_table([1.0, 1.0, 1.0]), LinearSchedule(-2.0, 0.0, steps=9), learning_rate=0.05)

    def run(dual: PerStateDual, seed: int) -> list[list[float]]:
        generator = torch.Generator().manual_seed(seed)
        history = []
        for _ in range(6):
            dual.update(torch.randn(3, generator=generator), FEATURES)
            history.append(_alphas(dual))
        return history

    dual = fresh()
    run(dual, 0)
    state = dual.state_dict()
    kept = copy.deepcopy(state)
    expected = run(dual, 1)
    for snapshot in (state, kept, state):
        other = fresh()
        weight = other.log_alpha.weight
        other.load_state_dict(snapshot)
        assert other.log_alpha.weight is weight
        assert run(other, 1) == expected
    message = (
        r"^state of PerStateDual does not fit: missing keys \['log_alpha', 'step'\], unknown keys \['alpha'\]$"
    )
    with pytest.raises(ValueError, match=message):
        dual.load_state_dict({"optimizer": {}, "alpha": 1})
    assert dual.to("cpu") is dual


def test_unreachable_targets() -> None:
    dual = PerStateDual(_table([1.0, 1.0, 1.0]), float)
    with pytest.raises(ValueError, match=r"^target entropy must be below 0.0000 nats, .* got 0: alpha would grow"):
        dual.limit_entropy(-math.inf, 0.0)
    dual.limit_entropy(-math.inf, 1.0)
    dual.update(torch.zeros(3), FEATURES)
    before = dual.log_alpha.weight.detach().clone()
    with pytest.raises(ValueError, match=r"^target entropy must be below 1.0000 nats, .* got 1: alpha would grow"):
        dual.update(torch.zeros(3), FEATURES)
    assert torch.equal(dual.log_alpha.weight.detach(), before)


def test_it_is_not_a_controller_of_a_scalar() -> None:
    assert not isinstance(PerStateDual(_table([1.0]), 0.0), Controller)


def test_raises() -> None:
    with pytest.raises(TypeError, match=r"^log_alpha must be a torch.nn.Module, got Tensor$"):
        PerStateDual(torch.zeros(3), 0.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^optimizer got an empty parameter list$"):
        PerStateDual(nn.Identity(), 0.0)
    with pytest.raises(ValueError, match=r"^bound must be one of"):
        PerStateDual(_table([1.0]), 0.0, bound="both")
    with pytest.raises(ValueError, match=r"^loss must be one of"):
        PerStateDual(_table([1.0]), 0.0, loss="l2")
    with pytest.raises(ValueError, match=r"^target entropy must be finite, got nan$"):
        PerStateDual(_table([1.0]), math.nan)
    with pytest.raises(ValueError, match=r"^minimum must not exceed maximum, got 2.0 and 1.0$"):
        PerStateDual(_table([1.0]), 0.0, minimum=2.0, maximum=1.0)
    with pytest.raises(ValueError, match=r"^learning_rate must be finite and above 0, got 0.0$"):
        PerStateDual(_table([1.0]), 0.0, learning_rate=0.0)
    dual = PerStateDual(_table([1.0, 1.0, 1.0]), 0.0)
    with pytest.raises(ValueError, match=r"^entropy must have one value per row, 3, got \(2,\)$"):
        dual.update(torch.zeros(2), FEATURES)
    with pytest.raises(ValueError, match=r"^entropy must have at least 1 dimension\(s\), got shape \(\)$"):
        dual.update(torch.tensor(0.0), FEATURES)
    with pytest.raises(TypeError, match=r"^entropy must be floating, got torch.int64"):
        dual.update(torch.zeros(3, dtype=torch.long), FEATURES)
    wide = PerStateDual(nn.Linear(3, 2), 0.0)
    for call in (lambda: wide.values(FEATURES), lambda: wide.update(torch.zeros(3), FEATURES)):
        with pytest.raises(
            ValueError, match=r"^the log_alpha module must return shape \(B,\) or \(B, 1\), got \(3, 2\)$"
        ):
            call()
    with pytest.raises(ValueError, match=r"must return shape \(B,\) or \(B, 1\), got tuple$"):
        PerStateDual(nn.LSTM(3, 1), 0.0).values(FEATURES)
