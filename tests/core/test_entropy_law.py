"""The entropy law: exact on data that obey it, SciPy's regression on data that do not quite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from entroreg.policy_gradient import fit_entropy_law


@given(a=st.floats(-2.0, 2.0), b=st.floats(-3.0, 3.0), seed=st.integers(0, 1000))
def test_data_that_obey_it(a: float, b: float, seed: int) -> None:
    entropy = np.random.default_rng(seed).uniform(0.05, 1.5, 12)
    law = fit_entropy_law(entropy, b - a * np.exp(entropy))
    assert (law.a, law.b, law.ceiling) == pytest.approx((a, b, b - a), abs=1e-9)
    assert law.ceiling_interval == pytest.approx((b - a, b - a), abs=1e-6)
    assert law.forecast(0.0) == pytest.approx(b - a, abs=1e-9)
    np.testing.assert_allclose(law.forecast([0.0, 1.0]), [b - a, b - a * math.e], atol=1e-9)


@given(seed=st.integers(0, 1000))
def test_scipys_regression(seed: int) -> None:
    rng = np.random.default_rng(seed)
    entropy = rng.uniform(0.1, 1.5, 20)
    reward = 0.9 - 0.3 * np.exp(entropy) + rng.normal(0.0, 0.05, 20)
    law = fit_entropy_law(entropy, reward)
    # Regression on exp(H) - 1: its intercept is the ceiling.
    peer = stats.linregress(np.exp(entropy) - 1.0, reward)
    half = stats.t.ppf(0.975, 18) * peer.intercept_stderr
    assert law.a == pytest.approx(-peer.slope)
    assert law.ceiling == pytest.approx(peer.intercept)
    assert law.ceiling_interval == pytest.approx((peer.intercept - half, peer.intercept + half))
    assert law.r_squared == pytest.approx(peer.rvalue**2)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"of one length, got shapes \(3,\) and \(2,\)"):
        fit_entropy_law([1.0, 0.5, 0.1], [0.1, 0.2])
    with pytest.raises(ValueError, match="at least 3 steps, got 2"):
        fit_entropy_law([1.0, 0.5], [0.1, 0.2])
    with pytest.raises(ValueError, match="must be finite"):
        fit_entropy_law([1.0, 0.5, math.nan], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"entropy is 0.5 at every step"):
        fit_entropy_law([0.5] * 3, [0.1, 0.2, 0.3])
