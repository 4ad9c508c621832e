"""agents/losses.py against NumPy loops in float64, closed forms and bounds; the doctests of the agents."""

from __future__ import annotations

import doctest
import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.autograd import gradcheck, gradgradcheck

from entroreg.agents import losses

RNG = np.random.default_rng(0)
relaxed = settings(deadline=None, max_examples=50)  # torch imports parts of itself at their first use
values = st.floats(-50.0, 50.0, allow_subnormal=False)


def _t(array: Any, grad: bool = False) -> torch.Tensor:
    return torch.as_tensor(np.array(array), dtype=torch.float64).requires_grad_(grad)


def _logs(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def test_soft_target_against_a_loop() -> None:
    rewards, next_values = RNG.normal(size=(2, 6, 1))
    dones = np.array([0, 1, 0, 1, 0, 0.0]).reshape(6, 1)
    discounts = np.array([0.9, 0.9, 0.81, 0.81, 0.729, 0.0]).reshape(6, 1)
    for given_discounts in (discounts, np.full((6, 1), 0.95)):
        expected = [
            rewards[i, 0] if dones[i, 0] else rewards[i, 0] + given_discounts[i, 0] * next_values[i, 0]
            for i in range(6)
        ]
        result = losses.soft_target(_t(rewards), _t(dones), _t(given_discounts), _t(next_values))
        np.testing.assert_allclose(result.flatten(), expected, rtol=1e-14)
    number = losses.soft_target(_t(rewards), _t(dones), 0.95, _t(next_values))
    assert torch.equal(number, result)


@pytest.mark.parametrize("critics", [1, 2, 3])
def test_critic_loss_against_a_loop(critics: int) -> None:
    q_values, target = RNG.normal(size=(critics, 7, 1)), RNG.normal(size=(7, 1))
    expected = 0.0
    for critic in range(critics):
        for row in range(7):
            expected += (q_values[critic, row, 0] - target[row, 0]) ** 2 / 7 / 2
    assert float(losses.critic_loss([_t(q) for q in q_values], _t(target))) == pytest.approx(expected, rel=1e-13)


def test_clipped_critic_loss_against_a_loop() -> None:
    q_values, old = 2.0 * RNG.normal(size=(2, 2, 40, 1))
    target = 2.0 * RNG.normal(size=(40, 1))
    expected, differs = 0.0, 0
    for critic in range(2):
        for row in range(40):
            q, o, y = q_values[critic, row, 0], old[critic, row, 0], target[row, 0]
            near = o + min(max(q - o, -0.5), 0.5)
            expected += max((q - y) ** 2, (near - y) ** 2) / 40 / 2
            differs += (near - y) ** 2 > (q - y) ** 2
    assert differs > 5
    args = [_t(q) for q in q_values], [_t(o) for o in old], _t(target)
    assert float(losses.clipped_critic_loss(*args, 0.5)) == pytest.approx(expected, rel=1e-13)
    assert float(losses.clipped_critic_loss(*args, 1e9)) == pytest.approx(
        float(losses.critic_loss(args[0], args[2]))
    )


@relaxed
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10.0))
def test_clipping_never_lowers_the_loss_and_needs_two_critics_lists_alike(seed: int, clip: float) -> None:
    generator = np.random.default_rng(seed)
    q_values, old = generator.normal(size=(2, 2, 5, 1)) * 3
    target = _t(generator.normal(size=(5, 1)))
    plain = losses.critic_loss([_t(q) for q in q_values], target)
    clipped = losses.clipped_critic_loss([_t(q) for q in q_values], [_t(o) for o in old], target, clip)
    assert float(clipped) >= float(plain) - 1e-12
    with pytest.raises(ValueError, match="zip"):
        losses.clipped_critic_loss([_t(q) for q in q_values], [_t(old[0])], target, clip)


@pytest.mark.parametrize("per_state", [False, True])
def test_actor_loss_against_a_loop(per_state: bool) -> None:
    log_probs, q_values = RNG.normal(size=(2, 6, 1))
    alpha = RNG.uniform(0.1, 1.0, (6, 1)) if per_state else np.float64(0.3)
    rows = np.broadcast_to(alpha, (6, 1))[:, 0]
    expected = sum(rows[i] * log_probs[i, 0] - q_values[i, 0] for i in range(6)) / 6
    assert float(losses.actor_loss(_t(log_probs), _t(q_values), _t(alpha))) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("per_state", [False, True])
def test_discrete_value_against_a_loop(per_state: bool) -> None:
    log_probs, q_values = _logs(RNG.normal(size=(5, 4))), RNG.normal(size=(5, 4))
    alpha = RNG.uniform(0.1, 1.0, (5, 1)) if per_state else np.float64(0.3)
    rows = np.broadcast_to(alpha, (5, 1))[:, 0]
    expected = [
        sum(math.exp(log_probs[i, a]) * (q_values[i, a] - rows[i] * log_probs[i, a]) for a in range(4))
        for i in range(5)
    ]
    result = losses.discrete_value(_t(log_probs), _t(q_values), _t(alpha))
    assert result.shape == (5, 1)
    np.testing.assert_allclose(result.flatten(), expected, rtol=1e-12)


@relaxed
@given(arrays(np.float64, (3, 4), elements=values), arrays(np.float64, (3, 4), elements=values))
def test_value_without_entropy_is_the_expectation(logits: np.ndarray, q_values: np.ndarray) -> None:
    log_probs = _logs(logits)
    value = losses.discrete_value(_t(log_probs), _t(q_values), torch.tensor(0.0)).flatten().numpy()
    np.testing.assert_allclose(value, (np.exp(log_probs) * q_values).sum(axis=1), rtol=1e-9, atol=1e-9)
    assert (value <= q_values.max(axis=1) + 1e-9).all()
    assert (value >= q_values.min(axis=1) - 1e-9).all()


@relaxed
@given(arrays(np.float64, (3, 4), elements=values), st.floats(0.05, 20.0), st.integers(0, 2**32 - 1))
def test_the_softmax_policy_has_the_largest_value_and_its_closed_form(
    q_values: np.ndarray, alpha: float, seed: int
) -> None:
    best = losses.discrete_value(
        _t(_logs(q_values / alpha)), _t(q_values), torch.tensor(alpha, dtype=torch.float64)
    )
    closed = alpha * np.logaddexp.reduce(q_values / alpha, axis=1)
    np.testing.assert_allclose(best.flatten(), closed, rtol=1e-9, atol=1e-9)
    other = _logs(np.random.default_rng(seed).normal(size=(3, 4)) * 3)
    value = losses.discrete_value(_t(other), _t(q_values), torch.tensor(alpha, dtype=torch.float64))
    assert (value <= best + 1e-9 * (1 + best.abs())).all()


@relaxed
@given(st.permutations(range(4)))
def test_value_ignores_the_order_of_actions(order: list[int]) -> None:
    log_probs, q_values = _t(_logs(np.arange(12.0).reshape(3, 4) % 5)), _t(np.arange(12.0).reshape(3, 4))
    value = losses.discrete_value(log_probs, q_values, torch.tensor(0.7))
    permuted = losses.discrete_value(log_probs[:, order], q_values[:, order], torch.tensor(0.7))
    torch.testing.assert_close(value, permuted)


def test_gradients() -> None:
    a, b, c = (_t(array, grad=True) for array in RNG.normal(size=(3, 5, 1)))
    alpha = torch.tensor(0.4, dtype=torch.float64)
    logits, q_values = _t(RNG.normal(size=(5, 3)), grad=True), _t(RNG.normal(size=(5, 3)), grad=True)
    checks = [
        (lambda x, y: losses.soft_target(x, torch.zeros(5, 1), 0.9, y), (a, b)),
        (lambda x, y, t: losses.critic_loss([x, y], t), (a, b, c)),
        (lambda x, y: losses.clipped_critic_loss([x], [torch.zeros(5, 1)], y, 0.5), (a, b)),
        (lambda x, y: losses.actor_loss(x, y, alpha), (a, b)),
        (lambda x, y: losses.discrete_value(torch.log_softmax(x, dim=1), y, alpha), (logits, q_values)),
    ]
    for function, inputs in checks:
        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)


def test_probabilities_of_zero_give_no_nan() -> None:
    log_probs = torch.log_softmax(torch.tensor([[0.0, -1e4, 1e4]]), dim=1).requires_grad_(True)
    value = losses.discrete_value(log_probs, torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor(0.5))
    assert float(value.detach()) == 3.0
    value.sum().backward()
    assert torch.isfinite(log_probs.grad).all()


MODULES = ["controller_state", "discrete_policy", "discrete_sac", "entropy_controlled", "losses", "sac"]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    module = importlib.import_module(f"entroreg.agents.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted >= {"sac": 3, "discrete_sac": 2}.get(name, 0)
