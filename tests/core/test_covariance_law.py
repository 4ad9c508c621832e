"""The theory behind covariance control: how a step on the logits changes the entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from entroreg.measures import categorical_entropy
from entroreg.selectors import token_covariance


def _policy(seed: int, actions: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits, step = torch.randn(2, actions, generator=generator, dtype=torch.float64)
    return logits, step


def _covariance(logits: Tensor, step: Tensor) -> float:
    """Cov_pi(log pi, step), by NumPy's weighted covariance."""
    probs = torch.softmax(logits, -1).numpy()
    return float(np.cov(np.log(probs), step.numpy(), aweights=probs, bias=True)[0, 1])


@given(seed=st.integers(0, 2**31))
def test_a_step_changes_entropy_by_minus_the_covariance_up_to_second_order(seed: int) -> None:
    logits, step = _policy(seed)

    def error(eta: float) -> float:
        change = categorical_entropy(logits + eta * step) - categorical_entropy(logits)
        return float(change) + eta * _covariance(logits, step)

    def second(eta: float) -> float:
        return error(eta) / eta**2

    # The coefficient of eta^2 settles: halving eta quarters the error.
    assert second(1e-3) == pytest.approx(second(5e-4), abs=0.02)
    assert abs(error(1e-3)) < 20.0 * 1e-6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_halving_the_step_quarters_the_error(seed: int) -> None:
    logits, step = _policy(seed)
    errors = [
        float(categorical_entropy(logits + eta * step) - categorical_entropy(logits))
        + eta * _covariance(logits, step)
        for eta in (2e-3, 1e-3, 5e-4)
    ]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.02)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.02)


def test_token_covariance_of_samples_estimates_it() -> None:
    logits, advantage = _policy(3)
    log_pi = torch.log_softmax(logits, -1)
    generator = torch.Generator().manual_seed(4)
    actions = torch.multinomial(log_pi.exp(), 200_000, replacement=True, generator=generator)
    estimate = float(token_covariance(log_pi[actions], advantage[actions]).mean())
    assert estimate == pytest.approx(_covariance(logits, advantage), abs=0.02)  # standard error about 0.003
    change = categorical_entropy(logits + 1e-3 * advantage) - categorical_entropy(logits)
    assert float(change) / 1e-3 == pytest.approx(-estimate, abs=0.03)
