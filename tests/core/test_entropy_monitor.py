"""The entropy monitor: its prediction against exact policy gradients, and its bookkeeping."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import entr, log_softmax
from torch import Tensor

from entroreg.measures import categorical_entropy
from entroreg.policy_gradient import EntropyMonitor, logit_step_entropy_change, reinforce_loss

Step = Callable[[Tensor, Tensor], Tensor]  # of probabilities and advantages


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _natural(probs: Tensor, advantages: Tensor) -> Tensor:
    return advantages


def _vanilla(probs: Tensor, advantages: Tensor) -> Tensor:
    return probs * advantages


def _exact(logits: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities, advantages, and the mean over states of Cov_pi(log pi, A), as the paper has it."""
    log_probs = torch.log_softmax(logits, dim=-1)
    probs = log_probs.exp()
    advantages = rewards - (probs * rewards).sum(dim=-1, keepdim=True)
    return probs, advantages, (probs * log_probs * advantages).sum(dim=-1).mean()


def _train(monitor: EntropyMonitor, step: Step, eta: float, updates: int, seed: int = 0) -> EntropyMonitor:
    """Feed the updates of a tabular policy of 5 states and 7 actions under an exact gradient."""
    logits, rewards = _normal(seed, 5, 7), _normal(seed + 1, 5, 7)
    for number in range(updates):
        probs, advantages, covariance = _exact(logits, rewards)
        monitor.update(number, categorical_entropy(logits).mean(), covariance)
        logits = logits + eta * step(probs, advantages)
    return monitor


def _error(step: Step, eta: float, seed: int) -> float:
    report = _train(EntropyMonitor(eta), step, eta, 2, seed).report()
    assert report.predicted is not None
    assert report.measured is not None
    return abs(report.predicted - report.measured)


# --- theory


@pytest.mark.parametrize("seed", range(5))
def test_a_natural_gradient_step_is_predicted_to_first_order(seed: int) -> None:
    assert _error(_natural, 0.01, seed) / _error(_natural, 0.005, seed) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_vanilla_gradient_step_is_not(seed: int) -> None:
    """Its logits move by eta pi A: the covariance with A is wrong to first order, that with the step is not."""
    assert _error(_vanilla, 0.01, seed) / _error(_vanilla, 0.005, seed) == pytest.approx(2.0, rel=0.05)
    logits = _normal(seed, 5, 7)
    probs, advantages, _ = _exact(logits, _normal(seed + 1, 5, 7))
    errors = []
    for eta in (0.01, 0.005):
        moved = eta * probs * advantages
        change = categorical_entropy(logits + moved) - categorical_entropy(logits)
        errors.append(float((logit_step_entropy_change(logits, moved) - change).mean().abs()))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.05)


def test_the_fit_finds_the_step_size() -> None:
    report = _train(EntropyMonitor(), _natural, 0.01, 50).report()
    assert report.eta == pytest.approx(0.01, rel=0.01)
    assert report.r_squared == pytest.approx(1.0, abs=1e-3)
    assert report.correlation == pytest.approx(1.0, abs=1e-3)
    half = _train(EntropyMonitor(0.005), _natural, 0.01, 50).report()
    assert half.r_squared == pytest.approx(0.75, abs=0.01)  # half of every change is left: 1 - 0.5^2
    assert half.correlation == report.correlation


def test_sampled_tokens_do_too() -> None:
    """One state, so that the pooled covariance of the metrics is that of the theory; 4,096 tokens an update."""
    monitor, generator = EntropyMonitor(), torch.Generator().manual_seed(0)
    logits, rewards = torch.zeros(6), torch.tensor([1.0, 0.2, 0.0, -0.5, 0.4, -1.0])
    for step in range(40):
        log_probs = torch.log_softmax(logits, dim=-1)
        tokens = torch.multinomial(log_probs.exp(), 4096, replacement=True, generator=generator).reshape(64, 64)
        chosen = log_probs[tokens]
        entropy = categorical_entropy(logits).expand(64, 64)
        metrics = reinforce_loss(chosen, chosen, rewards[tokens], entropy=entropy)[1]
        monitor.update(step, metrics.entropy, metrics.covariance)
        logits = logits + 0.05 * rewards
    report = monitor.report()
    assert report.eta == pytest.approx(0.05, rel=0.05)
    assert report.r_squared is not None
    assert report.r_squared > 0.98


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_the_logit_step_form(seed: int, scale: float) -> None:
    logits, moved = scale * _normal(seed, 3, 6), _normal(seed + 1, 3, 6)
    logits[0, 2], moved[0, 2], moved[1, 1] = -math.inf, math.nan, 10.0
    found = logit_step_entropy_change(logits, moved)
    # An oracle of its own: the derivative of entropy, by central differences along the step.
    ahead, behind = (
        torch.where(logits.isneginf(), logits, logits + sign * 1e-6 * moved.nan_to_num()) for sign in (1.0, -1.0)
    )
    rows = [log_softmax(values.numpy(), axis=-1) for values in (ahead, behind)]
    slopes = np.subtract(*(entr(np.exp(values)).sum(axis=-1) for values in rows)) / 2e-6
    np.testing.assert_allclose(found.numpy(), slopes, rtol=1e-5, atol=1e-6)


def test_the_logit_step_form_at_the_edges() -> None:
    half = _normal(0, 4, 5).to(torch.bfloat16)
    found = logit_step_entropy_change(half, half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), logit_step_entropy_change(half.double(), half.double()))
    assert logit_step_entropy_change(torch.tensor([3.0]), torch.tensor([1.0])).item() == 0.0
    impossible = logit_step_entropy_change(torch.full((2,), -math.inf), torch.ones(2))
    assert impossible.item() == 0.0
    shifted = logit_step_entropy_change(half.double(), half.double() + 1e3)
    torch.testing.assert_close(shifted, logit_step_entropy_change(half.double(), half.double()))
    with pytest.raises(ValueError, match=r"logit_step must have the shape of logits, \(4, 5\), got \(5,\)"):
        logit_step_entropy_change(half, half[0])
    with pytest.raises(TypeError, match="logits must be floating"):
        logit_step_entropy_change(half.long(), half)


# --- numbers


def _fed(eta: float | None = None) -> EntropyMonitor:
    monitor = EntropyMonitor(eta)
    for step, entropy, covariance in [(3, 1.0, 0.4), (5, 0.7, 0.2), (9, 0.65, -0.1), (10, 0.7, 0.3)]:
        monitor.update(step, entropy, covariance)
    return monitor


def test_the_report_by_hand() -> None:
    report = _fed(0.5).report()
    assert report[:4] == (10, 0.7, 0.3, 0.5)
    assert report[4:6] == pytest.approx((0.05, 0.05))
    changes, causes = np.array([-0.3, -0.05, 0.05]), np.array([-0.4, -0.2, 0.1])
    assert report.correlation == pytest.approx(stats.pearsonr(causes, changes).statistic)
    assert report.r_squared == pytest.approx(1.0 - ((changes - 0.5 * causes) ** 2).sum() / (changes**2).sum())
    fitted = _fed().report()
    (eta,), *_ = np.linalg.lstsq(causes[:, None], changes, rcond=None)
    assert fitted.eta == pytest.approx(eta)
    assert fitted.predicted == pytest.approx(eta * 0.1)
    assert fitted.r_squared > report.r_squared  # type: ignore[operator]


def test_the_columns_by_hand() -> None:
    columns = _fed(0.5).columns()
    assert list(columns) == ["step", "entropy", "covariance", "predicted", "measured"]
    assert columns["step"] == [3, 5, 9, 10]
    assert columns["entropy"] == [1.0, 0.7, 0.65, 0.7]
    assert columns["covariance"] == [0.4, 0.2, -0.1, 0.3]
    assert columns["predicted"][0] is columns["measured"][0] is None
    assert columns["predicted"][1:] == pytest.approx([-0.2, -0.1, 0.05])
    assert columns["measured"][1:] == pytest.approx([-0.3, -0.05, 0.05])
    json.dumps(columns, allow_nan=False)


def test_what_cannot_be_said_yet_is_none() -> None:
    monitor = EntropyMonitor()
    assert monitor.columns() == {name: [] for name in ("step", "entropy", "covariance", "predicted", "measured")}
    monitor.update(0, 1.0, 0.5)
    assert monitor.report() == (0, 1.0, 0.5, None, None, None, None, None)
    monitor.update(1, 0.9, 0.5)
    report = monitor.report()
    assert (report.eta, report.predicted, report.correlation, report.r_squared) == (None,) * 4
    assert report.measured == pytest.approx(-0.1)
    assert monitor.columns()["predicted"] == [None, None]
    monitor.update(2, 0.8, 0.5)
    report = monitor.report()
    assert report.eta == pytest.approx(0.2)
    assert report.correlation is None  # the covariance has not changed
    still = EntropyMonitor()
    for step in range(4):
        still.update(step, 1.0, 0.0)
    assert still.report()[3:] == (None, None, 0.0, None, None)


# --- state and devices


@pytest.mark.parametrize("eta", [None, 0.3])
def test_the_state_makes_the_round_trip(eta: float | None) -> None:
    monitor = _train(EntropyMonitor(eta), _natural, 0.1, 7)
    state = json.loads(json.dumps(monitor.state_dict()))
    other = EntropyMonitor(2.0)
    other.update(100, 0.0, 0.0)
    other.load_state_dict(state)
    assert other.state_dict() == state == monitor.state_dict()
    for each in (monitor, other):
        each.update(7, torch.tensor(0.123), 0.4)
    assert other.report() == monitor.report()
    assert other.columns() == monitor.columns()
    assert len(state["step"]) == 7  # the state is a copy


def test_a_state_that_does_not_fit() -> None:
    monitor, state = _fed(), _fed(0.5).state_dict()
    before = monitor.state_dict()
    cases: list[tuple[dict[str, Any], str]] = [
        (state | {"colour": 1}, r"missing keys \[\], unknown keys \['colour'\]"),
        ({name: value for name, value in state.items() if name != "eta"}, r"missing keys \['eta'\]"),
        (state | {"entropy": [1.0]}, r"lists of one length, got \{'step': 4, 'entropy': 1, 'covariance': 4\}"),
        (state | {"step": [3, 5, 5, 10]}, "step must be above the last one, 5, got 5"),
        (state | {"entropy": [1.0, math.nan, 1.0, 1.0]}, "entropy must be finite, got nan"),
    ]
    for bad, text in cases:
        with pytest.raises(ValueError, match=text):
            monitor.load_state_dict(bad)
        assert monitor.state_dict() == before


def test_an_update_reads_nothing_and_keeps_a_copy() -> None:
    monitor = EntropyMonitor()
    monitor.update(0, torch.zeros((), device="meta"), torch.zeros((), device="meta"))  # has no value to read
    monitor = EntropyMonitor(1.0)
    entropy, covariance = torch.tensor(0.5, requires_grad=True), torch.tensor(0.25, dtype=torch.bfloat16)
    monitor.update(0, entropy, covariance)
    with torch.no_grad():
        entropy.fill_(9.0)
        covariance.fill_(9.0)
    monitor.update(1, entropy, np.float32(0.125))
    assert monitor.report() == (1, 9.0, 0.125, 1.0, -0.25, 8.5, None, pytest.approx(1.0 - 8.75**2 / 8.5**2))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="eta must be finite and above 0, got 0"):
        EntropyMonitor(0.0)
    with pytest.raises(TypeError, match="eta must be a number, got str"):
        EntropyMonitor("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is nothing to report: call update first"):
        EntropyMonitor().report()
    monitor = _fed()
    before = monitor.state_dict()
    cases: list[tuple[tuple[Any, Any, Any], type[Exception], str]] = [
        ((10, 1.0, 1.0), ValueError, "step must be above the last one, 10, got 10: feed each update once"),
        ((4, 1.0, 1.0), ValueError, "step must be above the last one, 10, got 4"),
        ((11.0, 1.0, 1.0), TypeError, "step must be an integer, got float"),
        ((True, 1.0, 1.0), TypeError, "step must be an integer, got bool"),
        ((torch.tensor(11), 1.0, 1.0), TypeError, "step must be an integer, got Tensor"),
        ((11, "1", 1.0), TypeError, "entropy must be a number, got str"),
        ((11, math.nan, 1.0), ValueError, "entropy must be finite, got nan"),
        ((11, 1.0, math.inf), ValueError, "covariance must be finite, got inf"),
        ((11, torch.tensor(1), 1.0), TypeError, "entropy must be floating, got torch.int64"),
        ((11, 1.0, torch.zeros(2)), ValueError, r"covariance must be a number or a scalar.*got shape \(2,\)"),
    ]
    for arguments, error, text in cases:
        with pytest.raises(error, match=text):
            monitor.update(*arguments)
        assert monitor.state_dict() == before
    monitor.update(11, torch.tensor(0.5), torch.tensor(math.nan))
    for method in (monitor.report, monitor.columns, monitor.state_dict):
        with pytest.raises(
            ValueError, match="covariance of step 11 must be finite, got nan: look upstream; to go on"
        ):
            method()
    monitor.load_state_dict(before)
    assert monitor.report().step == 10


# --- TensorBoard


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    monitor = EntropyMonitor(0.5)
    with SummaryWriter(str(tmp_path)) as writer:  # type: ignore[no-untyped-call]
        for step, entropy, covariance in [(3, 1.0, 0.4), (5, 0.7, 0.2), (9, 0.65, -0.1)]:
            monitor.update(step, entropy, covariance)
            monitor.write(writer, "policy")
    events = EventAccumulator(str(tmp_path)).Reload()
    read = {
        name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]
    }
    assert list(read) == ["policy/covariance", "policy/predicted_change", "policy/measured_change"]
    expected = {
        "covariance": ([3, 5, 9], [0.4, 0.2, -0.1]),
        "predicted_change": ([5, 9], [-0.2, -0.1]),
        "measured_change": ([5, 9], [-0.3, -0.05]),
    }
    for name, (steps, values) in expected.items():
        assert [step for step, _ in read[f"policy/{name}"]] == steps
        assert [value for _, value in read[f"policy/{name}"]] == pytest.approx(values, rel=1e-6)  # float32 on disk


def test_the_core_needs_neither_tensorboard_nor_matplotlib() -> None:
    code = (
        "import sys; from entroreg.policy_gradient import EntropyMonitor; EntropyMonitor().update(0, 1.0, 0.1); "
        "print([name for name in ('tensorboard', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
