"""Whether entropy changes as the covariance of log-probability and advantage says it should."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from entroreg import _checks

_KEYS = ("eta", "step", "entropy", "covariance")


class ScalarWriter(Protocol):
    """What takes scalars as TensorBoard's ``SummaryWriter`` does."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> object:
        """Take a value under a name at a step."""


class EntropyReport(NamedTuple):
    """The last update, and how well the prediction has explained all so far; None where there is too little to say.

    Attributes:
        step: of the last update.
        entropy: of the policy before it, nats.
        covariance: of log-probability and advantage in it.
        eta: step size of the logits, given or fitted.
        predicted: change of entropy since the update before, -eta times the covariance of that update, nats.
        measured: the same change, measured, nats.
        correlation: of -covariance and measured change, in [-1, 1]; the same for every eta above 0.
        r_squared: 1 - sum (measured - predicted)^2 / sum measured^2: 1 is exact, 0 no better than to predict no
            change, below 0 worse. With a fitted eta it is that of the fit.

    Example:
        >>> EntropyReport(2, 0.7, 0.1, 0.5, -0.05, -0.04, 1.0, 0.9).measured
        -0.04
    """

    step: int
    entropy: float
    covariance: float
    eta: float | None
    predicted: float | None
    measured: float | None
    correlation: float | None
    r_squared: float | None


class EntropyMonitor:
    r"""Compares the changes of a policy's entropy with those that its covariances predict.

    $$H_{k+1} - H_k \approx -\eta\, \mathrm{Cov}(\log\pi_k, A_k)$$

    Exact to first order for a step of eta A on the logits, the natural policy gradient of a tabular softmax. What
    else moves the logits (Adam, a network, the vanilla gradient with its factor pi) has no such eta; then it is
    fitted by least squares through the origin, once there are two changes, and the report says how much it
    explains. ``logit_step_entropy_change`` predicts from the logits themselves.

    Differs from the paper: the covariance of ``PolicyMetrics`` is over the tokens of all states together, not the
    mean of those of each state.

    Args:
        eta: step size of the logits, above 0; None fits it.

    Raises:
        TypeError: eta is no number.
        ValueError: eta not above 0.

    Example:
        >>> monitor = EntropyMonitor(eta=0.5)
        >>> monitor.update(1, entropy=0.70, covariance=0.10)
        >>> monitor.update(2, entropy=0.66, covariance=0.08)
        >>> report = monitor.report()
        >>> f"{report.predicted:.2f} {report.measured:.2f}"
        '-0.05 -0.04'

    Reference:
        Cui et al. (2025), arXiv 2505.22617, theorem 2.
    """

    def __init__(self, eta: float | None = None) -> None:
        self.eta = None if eta is None else _checks.require_positive("eta", eta)
        self._steps: list[int] = []
        self._entropy: list[float] = []
        self._covariance: list[float] = []
        self._unread: list[tuple[float | Tensor, float | Tensor]] = []

    def update(self, step: int, entropy: float | Tensor, covariance: float | Tensor) -> None:
        """Take what was measured on the batch of an update; nothing waits for a device.

        Args:
            step: of the update, above all before.
            entropy: mean entropy of the policy before the update, nats; true, since an estimate from the chosen
                tokens is mostly noise. A number or a scalar tensor.
            covariance: mean covariance of log-probability and advantage, ``PolicyMetrics.covariance``.

        Raises:
            TypeError: step is no integer, or the others neither numbers nor floating tensors.
            ValueError: step not above the last one, a tensor with dimensions, or a number that is not finite; a
                tensor that is not finite is found when it is read.
        """
        number = _require_step(step, self._steps)
        self._unread.append((_held("entropy", entropy), _held("covariance", covariance)))
        self._steps.append(number)

    def report(self) -> EntropyReport:
        """Return what is to be said of the last update.

        Raises:
            ValueError: no update yet, or a value that is not finite.
        """
        columns = self.columns()
        if not self._steps:
            raise ValueError("there is nothing to report: call update first")
        causes, changes = self._causes_and_changes()
        eta = self._eta(causes, changes)
        return EntropyReport(
            step=self._steps[-1],
            entropy=self._entropy[-1],
            covariance=self._covariance[-1],
            eta=eta,
            predicted=columns["predicted"][-1],
            measured=columns["measured"][-1],
            correlation=_correlation(causes, changes),
            r_squared=None if eta is None else _explained(eta * causes, changes),
        )

    def columns(self) -> dict[str, list[float | None]]:
        """Return the history, one list of equal length each: step, entropy, covariance, predicted and measured.

        A change stands beside the update after it, so the first is None; predictions are those of the present eta.

        Raises:
            ValueError: a value that is not finite.
        """
        self._read()
        causes, changes = self._causes_and_changes()
        eta = self._eta(causes, changes)
        before: list[float | None] = [None] * min(1, len(self._steps))
        unknown: list[float | None] = [None] * len(causes)
        return {
            "step": list(self._steps),
            "entropy": list(self._entropy),
            "covariance": list(self._covariance),
            "predicted": before + (unknown if eta is None else (eta * causes).tolist()),
            "measured": before + changes.tolist(),
        }

    def write(self, writer: ScalarWriter, prefix: str = "entropy") -> None:
        """Give covariance, predicted and measured change to a writer at the step of the last update.

        Args:
            writer: anything with ``add_scalar(tag, value, step)``, as TensorBoard's ``SummaryWriter``.
            prefix: of the three names; a change that is not known yet is not written.

        Raises:
            ValueError: no update yet, or a value that is not finite.
        """
        report = self.report()
        values = {
            "covariance": report.covariance,
            "predicted_change": report.predicted,
            "measured_change": report.measured,
        }
        for name, value in values.items():
            if value is not None:
                writer.add_scalar(f"{prefix}/{name}", value, report.step)

    def state_dict(self) -> dict[str, Any]:
        """Return eta, None where it is fitted, and the history: plain numbers that JSON keeps exactly."""
        self._read()
        history = (list(self._steps), list(self._entropy), list(self._covariance))
        return dict(zip(_KEYS, (self.eta, *history), strict=True))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the place of the monitor that a state is of; a state that does not fit changes nothing.

        Raises:
            TypeError: something else than numbers inside.
            ValueError: keys missing or unknown, lists of different lengths, or values that ``update`` refuses.
        """
        _checks.require_keys("state of EntropyMonitor", state, _KEYS)
        lengths = {key: len(state[key]) for key in _KEYS[1:]}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"state of EntropyMonitor must have lists of one length, got {lengths}")
        other = EntropyMonitor(state["eta"])
        for step, entropy, covariance in zip(*(state[key] for key in _KEYS[1:]), strict=True):
            other.update(step, entropy, covariance)
        vars(self).update(vars(other))

    def _read(self) -> None:
        """Turn what is held into numbers: the first read waits for the device, the others find it idle."""
        rows = []
        for step, pair in zip(self._steps[len(self._entropy) :], self._unread, strict=True):
            numbers = tuple(float(value) for value in pair)
            for name, value in zip(("entropy", "covariance"), numbers, strict=True):
                if not math.isfinite(value):
                    raise ValueError(
                        f"{name} of step {step} must be finite, got {value}: look upstream; to go on, load an "
                        "earlier state or start a new monitor"
                    )
            rows.append(numbers)
        self._entropy += [entropy for entropy, _ in rows]
        self._covariance += [covariance for _, covariance in rows]
        self._unread = []

    def _causes_and_changes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return minus the covariance of every update but the last, and the change of entropy that came of it."""
        return -np.array(self._covariance[:-1]), np.diff(self._entropy)

    def _eta(self, causes: np.ndarray, changes: np.ndarray) -> float | None:
        if self.eta is not None:
            return self.eta
        square = float(causes @ causes)
        # One change would be explained exactly, whatever it is.
        return float(causes @ changes) / square if len(causes) > 1 and square > 0.0 else None


def _require_step(step: Any, before: list[int]) -> int:
    # A tensor is an index too, at the price of waiting for its device.
    if isinstance(step, bool | Tensor) or not hasattr(step, "__index__"):
        raise TypeError(f"step must be an integer, got {type(step).__name__}")
    number = operator.index(step)
    if before and number <= before[-1]:
        raise ValueError(f"step must be above the last one, {before[-1]}, got {number}: feed each update once")
    return number


def _held(name: str, value: float | Tensor) -> float | Tensor:
    """Return a number checked, or a copy of a scalar tensor, whose owner may write into it again."""
    if not isinstance(value, Tensor):
        return _checks.require_number(name, value)
    _checks.require_floating(name, value, min_dim=0)
    if value.dim():
        raise ValueError(
            f"{name} must be a number or a scalar tensor, got shape {tuple(value.shape)}: take its mean"
        )
    return value.detach().clone()


def _correlation(causes: np.ndarray, changes: np.ndarray) -> float | None:
    if len(causes) < 2 or np.ptp(causes) == 0.0 or np.ptp(changes) == 0.0:
        return None
    return float(np.corrcoef(causes, changes)[0, 1])


def _explained(predicted: np.ndarray, changes: np.ndarray) -> float | None:
    spread = float(changes @ changes)
    return 1.0 - float(((changes - predicted) ** 2).sum()) / spread if spread > 0.0 else None
