from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg.loss_balance import LossBalance


@given(
    losses=st.lists(st.tuples(st.floats(0.01, 10.0), st.floats(0.01, 10.0)), min_size=2, max_size=8),
    rate=st.floats(0.001, 1.0),
    beta=st.floats(0.0, 3.0),
)
def test_weights_follow_the_equation(losses: list[tuple[float, float]], rate: float, beta: float) -> None:
    balance = LossBalance(rate=rate, beta=beta)
    weights = np.array([0.5, 0.5])
    for pair in losses:
        pace = (np.array(pair) / np.array(losses[0])) ** beta
        weights = weights - rate * (weights - pace / pace.sum())
        balance.update([torch.tensor(loss) for loss in pair])
        assert balance.weights.numpy() == pytest.approx(weights, rel=1e-4)
        assert float(balance.weights.sum()) == pytest.approx(1.0, abs=1e-5)


def test_the_first_batch_changes_nothing_and_the_slower_loss_gains() -> None:
    balance = LossBalance(3)
    assert torch.equal(balance.weights, torch.full((3,), 1 / 3))
    balance.update([torch.tensor(5.0), torch.tensor(1.0), torch.tensor(2.0)])
    assert balance.weights.tolist() == pytest.approx([1 / 3] * 3)
    metrics = balance.update([torch.tensor(5.0), torch.tensor(0.5), torch.tensor(0.5)])
    first, second, third = balance.weights.tolist()
    assert first > second > third
    assert float(metrics["weight_0"]) == first


def test_losses_of_0_keep_the_weights_finite() -> None:
    balance = LossBalance(rate=1.0)
    balance.update([torch.tensor(1.0), torch.tensor(1.0)])
    balance.update([torch.tensor(0.0), torch.tensor(0.0)])
    assert balance.weights.tolist() == [0.5, 0.5]


def test_weights_have_no_gradient() -> None:
    balance = LossBalance()
    loss = torch.tensor(1.0, requires_grad=True)
    for _ in range(2):
        balance.update([loss, 2 * loss])
    assert not balance.weights.requires_grad


@pytest.mark.parametrize("updates", [0, 3])
def test_state_round_trips(updates: int) -> None:
    balance, other = LossBalance(), LossBalance()
    for step in range(updates):
        balance.update([torch.tensor(2.0 - 0.1 * step), torch.tensor(1.0 / (step + 1))])
    other.load_state_dict(balance.state_dict())
    for one in (balance, other):
        one.update([torch.tensor(0.7), torch.tensor(0.1)])
        one.update([torch.tensor(0.6), torch.tensor(0.2)])
    assert torch.equal(balance.weights, other.weights)


def test_bad_input() -> None:
    good = torch.tensor(1.0)
    for call, message in (
        (lambda: LossBalance(1), r"^losses must be finite and at least 2, got 1$"),
        (lambda: LossBalance(rate=0.0), r"^rate must be in \(0, 1\], got 0.0$"),
        (lambda: LossBalance(beta=-1.0), r"^beta must be finite and at least 0, got -1.0$"),
        (lambda: LossBalance().update([good]), r"^losses must be 2 scalars, got shapes \[\(\)\]$"),
        (
            lambda: LossBalance().update([good, good[None]]),
            r"^losses must be 2 scalars, got shapes \[\(\), \(1,\)\]$",
        ),
        (
            lambda: LossBalance().update([good, 0 * good]),
            r"^first losses must be finite and above 0, got \[1.0, 0.0\]$",
        ),
        (lambda: LossBalance().update([good, good * torch.nan]), r"^first losses must be finite and above 0"),
        (lambda: LossBalance().load_state_dict({}), r"missing keys \['first', 'weights'\]"),
        (lambda: LossBalance().load_state_dict(LossBalance(3).state_dict()), r"^state must be of 2 losses, got 3$"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^losses must be an int, got bool$"):
        LossBalance(True)
