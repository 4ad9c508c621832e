"""Controllers in the loop with a policy: entropy arrives at its target, from both sides and for both bounds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from entroreg import EntropyRegularizer
from entroreg.controllers import Dual, PerStateDual
from entroreg.measures import categorical_entropy

REWARDS = torch.tensor([1.0, 0.5, 0.0, -0.5, 0.2])


def _train(dual: Dual, sign: str, bonus: float, start: Tensor, steps: int) -> float:
    """Gradient descent of -E[r] - bonus H + the regulariser's loss on the logits; returns the final entropy."""
    regularizer, logits = EntropyRegularizer(dual, sign=sign), start.clone().requires_grad_(True)
    for _ in range(steps):
        entropy = categorical_entropy(logits)
        output = regularizer(entropy)
        loss = -(torch.softmax(logits, -1) @ REWARDS) - bonus * entropy + output.loss
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 2.0 * gradient
        dual.update(output.entropy)
    return float(categorical_entropy(logits.detach()))


@pytest.mark.parametrize("loss", ["log_alpha", "alpha"])
@pytest.mark.parametrize(("initial", "scale"), [(0.02, 4.0), (5.0, 0.0)], ids=["from below", "from above"])
@pytest.mark.parametrize(("bound", "sign", "bonus"), [("lower", "maximize", 0.0), ("upper", "minimize", 1.0)])
def test_dual_brings_entropy_to_its_target(
    loss: str, initial: float, scale: float, bound: str, sign: str, bonus: float
) -> None:
    # Without the regulariser the policy would be greedy (bonus 0, entropy 0) or nearly uniform (bonus 1, 1.49).
    dual = Dual(
        1.0, bound=bound, loss=loss, initial=initial if bound == "lower" else 0.2 * initial, learning_rate=0.02
    )
    dual.limit_entropy(0.0, math.log(5))
    assert _train(dual, sign, bonus, scale * REWARDS, steps=900) == pytest.approx(1.0, abs=0.03)


def _soft_policies(rewards: Tensor, alphas: Tensor) -> Tensor:
    """Entropies of the policies that maximise E[r] + alpha H in each state: softmax(r / alpha)."""
    return categorical_entropy(rewards / alphas.unsqueeze(-1))


@pytest.mark.parametrize("start", [0.05, 20.0])
def test_per_state_dual_holds_each_state_where_a_scalar_cannot(start: float) -> None:
    rewards, states = REWARDS * torch.tensor([[0.3], [1.0], [4.0]]), torch.eye(3)
    table = nn.Linear(3, 1, bias=False)
    nn.init.constant_(table.weight, math.log(start))
    many = PerStateDual(table, 1.0, learning_rate=0.05)
    one = Dual(1.0, initial=start, learning_rate=0.05)
    for _ in range(300):
        many.update(_soft_policies(rewards, many.values(states)), states)
        one.update(_soft_policies(rewards, one.value.expand(3)))
    assert _soft_policies(rewards, many.values(states)).tolist() == pytest.approx([1.0] * 3, abs=0.02)
    by_scalar = _soft_policies(rewards, one.value.expand(3))
    assert float(by_scalar.mean()) == pytest.approx(1.0, abs=0.02)
    assert (by_scalar - 1.0).abs().max() > 0.4
