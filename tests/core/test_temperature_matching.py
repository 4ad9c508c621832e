from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from entroreg.temperature_matching import MatchTemperature, sign_step, solve_temperatures


def _logits(seed: int, scale: float, batch: int = 32, classes: int = 10) -> Tensor:
    return scale * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed))


def _entropy(logits: Tensor, temperature: float) -> float:
    probs = scipy.special.softmax(logits.double().numpy() / temperature, axis=-1)
    return float(np.mean(scipy.stats.entropy(probs, axis=-1)))


def test_solve_finds_brents_root() -> None:
    sharp, soft = _logits(0, 6.0), _logits(1, 2.0)
    target = _entropy(soft, 1.0)
    root = scipy.optimize.brentq(lambda tau: _entropy(sharp, tau) - target, 1.0, 10.0, xtol=1e-13)
    found = solve_temperatures([sharp, soft])
    assert float(found[0]) == pytest.approx(root, abs=1e-9)
    assert float(found[1]) == 1.0


@given(
    seed=st.integers(0, 2**31),
    scales=st.lists(st.floats(0.5, 12.0), min_size=2, max_size=4),
    classes=st.integers(2, 12),
)
def test_solve_gives_equal_entropies_in_one_call_or_stops_at_the_highest_temperature(
    seed: int, scales: list[float], classes: int
) -> None:
    teachers = [_logits(seed + index, scale, 16, classes) for index, scale in enumerate(scales)]
    match = MatchTemperature(len(teachers))
    metrics = match.update(teachers)
    entropies = [_entropy(z, float(tau)) for z, tau in zip(teachers, match.temperatures, strict=True)]
    target = max(_entropy(z, 1.0) for z in teachers)
    assert float(match.temperatures.min()) == 1.0
    for index, (entropy, tau) in enumerate(zip(entropies, match.temperatures, strict=True)):
        assert entropy == pytest.approx(target, abs=1e-6) or (tau == 10.0 and entropy < target)
        assert float(metrics[f"entropy_{index}"]) == pytest.approx(entropy, abs=1e-9)


def test_a_teacher_out_of_reach_stays_at_the_highest_temperature() -> None:
    found = solve_temperatures([_logits(0, 500.0), _logits(1, 0.1)])
    assert found.tolist() == [10.0, 1.0]


def test_equal_teachers_need_no_temperature() -> None:
    logits = _logits(0, 3.0)
    assert solve_temperatures([logits, logits.clone()]).tolist() == [1.0, 1.0]
    assert sign_step(torch.full((2,), 2.0), [logits, logits.clone()], rate=0.5).tolist() == [2.0, 2.0]


def test_the_sign_steps_are_the_authors() -> None:
    """METHODS 6, step by step: tau_a <- clip(tau_a - r sign(H_a / H_n - 1), 1, 10), tau_n symmetric."""
    match = MatchTemperature(mode="sign", rate=0.05)
    adversarial, natural = 1.0, 1.0
    for step in range(80):
        batch = [_logits(2 * step, 6.0), _logits(2 * step + 1, 2.0 + 0.02 * step)]
        sign = np.sign(_entropy(batch[0], adversarial) / _entropy(batch[1], natural) - 1.0)
        adversarial = float(np.clip(adversarial - 0.05 * sign, 1.0, 10.0))
        natural = float(np.clip(natural + 0.05 * sign, 1.0, 10.0))
        match.update(batch)
        assert match.temperatures.tolist() == pytest.approx([adversarial, natural], abs=1e-9)
    assert adversarial > 2.0 > natural


def test_sign_needs_many_updates_where_solve_needs_one() -> None:
    teachers = [_logits(0, 6.0), _logits(1, 2.0)]
    target = float(solve_temperatures(teachers)[0])
    match = MatchTemperature(mode="sign", rate=0.05)
    for _ in range(math.ceil((target - 1.0) / 0.05) + 20):
        match.update(teachers)
    assert abs(float(match.temperatures[0]) - target) <= 0.05 + 1e-9
    before = match.temperatures
    match.update(teachers)
    assert float((match.temperatures - before).abs().max()) == pytest.approx(0.05)  # it chatters


def test_three_teachers_step_towards_their_mean() -> None:
    teachers = [_logits(0, 8.0), _logits(1, 4.0), _logits(2, 1.0)]
    moved = sign_step(torch.full((3,), 2.0), teachers, rate=0.1)
    assert moved.tolist() == pytest.approx([2.1, 2.1, 1.9])


def test_teachers_get_no_gradient() -> None:
    teachers = [_logits(0, 6.0).requires_grad_(), _logits(1, 2.0).requires_grad_()]
    assert not solve_temperatures(teachers).requires_grad
    assert not sign_step(torch.ones(2), teachers).requires_grad


@pytest.mark.parametrize("mode", ["solve", "sign"])
def test_state_round_trips(mode: str) -> None:
    match = MatchTemperature(mode=mode, rate=0.3)
    match.update([_logits(0, 6.0), _logits(1, 2.0)])
    other = MatchTemperature(mode=mode, rate=0.3)
    other.load_state_dict(match.state_dict())
    assert torch.equal(other.temperatures, match.temperatures)
    batch = [_logits(2, 6.0), _logits(3, 2.0)]
    match.update(batch)
    other.update(batch)
    assert torch.equal(other.temperatures, match.temperatures)


def test_bad_input() -> None:
    good = _logits(0, 1.0)
    for call, message in (
        (lambda: MatchTemperature(1), r"^teachers must be finite and at least 2, got 1$"),
        (lambda: MatchTemperature(mode="bisect"), r"^mode must be one of \['sign', 'solve'\], got 'bisect'$"),
        (lambda: MatchTemperature(rate=0.0), r"^rate must be finite and above 0, got 0.0$"),
        (lambda: MatchTemperature(low=0.0), r"^low must be finite and above 0"),
        (lambda: MatchTemperature(low=2.0, high=1.0), r"^high must be finite and at least 2, got 1.0$"),
        (lambda: MatchTemperature().update([good]), r"^logits must be of 2 teachers, got 1$"),
        (lambda: solve_temperatures([good]), r"^logits must be of at least two teachers, got 1$"),
        (lambda: solve_temperatures([good, good[:, :4]]), r"^teachers must have the same classes, got 10 and 4$"),
        (lambda: solve_temperatures([good, good[:0]]), r"^logits\[1\] must not be empty, got shape \(0, 10\)$"),
        (lambda: sign_step(torch.ones(3), [good, good]), r"^temperatures must have shape \(2,\), got \(3,\)$"),
        (lambda: MatchTemperature().load_state_dict({}), r"missing keys \['temperatures'\]"),
        (
            lambda: MatchTemperature().load_state_dict(MatchTemperature(3).state_dict()),
            r"^state must be of 2 teachers, got shape \(3,\)$",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^logits\[1\] must be floating, got torch.int64"):
        solve_temperatures([good, good.long()])
    with pytest.raises(TypeError, match=r"^teachers must be an int, got float$"):
        MatchTemperature(2.0)  # type: ignore[arg-type]
