"""Logit divisors that give several teachers predictions of one entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.measures.categorical import categorical_entropy

__all__ = ["MatchTemperature", "sign_step", "solve_temperatures"]

_HALVINGS = 40  # of the bracket: 9 / 2^40 is below 1e-11


class MatchTemperature:
    """One temperature for each teacher, such that all of them are equally uncertain.

    ``solve`` (`solve_temperatures`) balances each batch at once; ``sign`` (`sign_step`) is the authors' small step,
    which needs thousands of batches and then chatters by ``rate``.

    Args:
        teachers: how many, from 2.
        mode: solve or sign.
        rate: r of ``sign``, above 0; an attribute, which a schedule may lower.
        low: the lowest temperature, above 0, where all begin.
        high: the highest.

    Raises:
        TypeError: a number of another kind.
        ValueError: a number out of its range, or another mode.

    Example:
        >>> match = MatchTemperature()
        >>> _ = match.update([torch.tensor([[4.0, 0.0]]), torch.tensor([[1.0, 0.0]])])
        >>> match.temperatures
        tensor([4.0000, 1.0000], dtype=torch.float64)

    Reference:
        Zhao et al. (2023), B-MTARD, arXiv 2306.16170 (Entropy-Based Balance). Differs from the paper: ``solve``.
    """

    def __init__(
        self, teachers: int = 2, mode: str = "solve", rate: float = 1e-3, low: float = 1.0, high: float = 10.0
    ) -> None:
        if isinstance(teachers, bool) or not isinstance(teachers, int):
            raise TypeError(f"teachers must be an int, got {type(teachers).__name__}")
        _checks.require_number("teachers", teachers, low=2)
        _checks.require_choice("mode", mode, ("sign", "solve"))
        self.mode = mode
        self.rate = _checks.require_positive("rate", rate)
        self.low, self.high = _require_bounds(low, high)
        self._temperatures = torch.full((teachers,), self.low, dtype=torch.float64)

    @property
    def temperatures(self) -> Tensor:
        """The temperatures, (teachers,) float64, detached."""
        return self._temperatures

    def update(self, logits: Sequence[Tensor]) -> dict[str, Tensor]:
        """Take the teachers' logits of a batch and return the new temperatures, with the entropies they give.

        Args:
            logits: one (..., K) floating for each teacher, K the same for all; detached here.

        Returns:
            ``temperature_i`` and ``entropy_i``, scalars: the batch mean at the new temperature.

        Raises:
            TypeError: logits not floating tensors.
            ValueError: another number of teachers, other classes, or an empty batch.
        """
        if len(logits) != len(self._temperatures):
            raise ValueError(f"logits must be of {len(self._temperatures)} teachers, got {len(logits)}")
        if self.mode == "solve":
            self._temperatures = solve_temperatures(logits, self.low, self.high)
        else:
            self._temperatures = sign_step(self._temperatures, logits, self.rate, self.low, self.high)
        entropies = _entropies(_detached(logits), self._temperatures)
        return {
            **{f"temperature_{index}": value for index, value in enumerate(self._temperatures.unbind())},
            **{f"entropy_{index}": value for index, value in enumerate(entropies.unbind())},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the temperatures."""
        return {"temperatures": self._temperatures.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the temperatures.

        Raises:
            ValueError: a key is missing or unknown, or the state is of another number of teachers.
        """
        _checks.require_keys("state of MatchTemperature", state, ("temperatures",))
        temperatures = state["temperatures"]
        if temperatures.shape != self._temperatures.shape:
            raise ValueError(
                f"state must be of {len(self._temperatures)} teachers, got shape {tuple(temperatures.shape)}"
            )
        self._temperatures = temperatures.clone()


def solve_temperatures(logits: Sequence[Tensor], low: float = 1.0, high: float = 10.0) -> Tensor:
    r"""Return the temperatures at which all teachers have the entropy of the most uncertain one.

    $$\tau_i = \min\{\tau \in [low, high] : \bar H_i(\tau) \ge \max_j \bar H_j(low)\}, \qquad
      \frac{d \bar H}{d\tau} = \frac{1}{\tau^3} \overline{\mathrm{Var}_p(z)} \ge 0$$

    The entropy rises with the temperature, so the most uncertain teacher stays at ``low`` and the others are
    raised, to ``high`` where no temperature below suffices. No device sync: all teachers are bisected at once, a
    fixed number of times.

    Args:
        logits: one (..., K) floating for each teacher, K the same for all; detached here.
        low: lowest temperature, above 0.
        high: highest.

    Returns:
        (teachers,) float64, on the logits' device.

    Raises:
        TypeError: logits not floating tensors.
        ValueError: fewer than two teachers, other classes or devices, an empty batch, or bounds that are none.

    Example:
        >>> solve_temperatures([torch.tensor([[4.0, 0.0]]), torch.tensor([[1.0, 0.0]])])
        tensor([4.0000, 1.0000], dtype=torch.float64)
    """
    low, high = _require_bounds(low, high)
    teachers = _detached(logits)
    target = _entropies(teachers, torch.full((len(teachers),), low)).max()
    if all(teacher.shape == teachers[0].shape for teacher in teachers):
        return _raised(torch.stack(teachers), target, low, high)
    return torch.cat([_raised(teacher[None], target, low, high) for teacher in teachers])


def sign_step(
    temperatures: Tensor, logits: Sequence[Tensor], rate: float = 1e-3, low: float = 1.0, high: float = 10.0
) -> Tensor:
    r"""Return temperatures one step nearer to balance: down for a teacher more uncertain than the others.

    $$\tau_i \leftarrow \mathrm{clip}\Big(\tau_i - r\,\mathrm{sign}\big(\bar H_i(\tau_i) -
      \tfrac{1}{n-1}\textstyle\sum_{j \ne i} \bar H_j(\tau_j)\big), low, high\Big)$$

    For two teachers this is the authors' sign(H_a / H_n - 1).

    Args:
        temperatures: (teachers,) the present ones.
        logits: one (..., K) floating for each teacher, K the same for all; detached here.
        rate: r, above 0.
        low: lowest temperature, above 0.
        high: highest.

    Returns:
        (teachers,) float64, on the logits' device.

    Raises:
        TypeError: logits not floating tensors.
        ValueError: as `solve_temperatures`, another number of temperatures, or a rate that is not above 0.

    Example:
        >>> both = [torch.tensor([[4.0, 0.0]]), torch.tensor([[1.0, 0.0]])]
        >>> sign_step(torch.ones(2), both, rate=0.1)
        tensor([1.1000, 1.0000], dtype=torch.float64)
    """
    low, high = _require_bounds(low, high)
    _checks.require_positive("rate", rate)
    teachers = _detached(logits)
    if temperatures.shape != (len(teachers),):
        raise ValueError(f"temperatures must have shape ({len(teachers)},), got {tuple(temperatures.shape)}")
    entropies = _entropies(teachers, temperatures)
    # H_i - mean of the others has the sign of H_i - mean of all.
    above = torch.sign(entropies - entropies.mean())
    return (temperatures.to(entropies) - rate * above).clamp(low, high)


def _raised(logits: Tensor, target: Tensor, low: float, high: float) -> Tensor:
    """Return the lowest temperatures (T,) of teachers (T, ..., K) whose mean entropies are at least the target."""
    shape = (-1, *[1] * (logits.dim() - 1))
    begin, end = (
        torch.full((len(logits),), bound, dtype=torch.float64, device=logits.device) for bound in (low, high)
    )
    reached = _mean_entropy(logits / low) >= target
    for _ in range(_HALVINGS):
        middle = (begin + end) / 2.0
        enough = _mean_entropy(logits / middle.view(shape)) >= target
        begin, end = torch.where(enough, begin, middle), torch.where(enough, middle, end)
    return torch.where(reached, low, end)


def _mean_entropy(logits: Tensor) -> Tensor:
    return categorical_entropy(logits).flatten(1).mean(dim=1)


def _entropies(logits: Sequence[Tensor], temperatures: Tensor) -> Tensor:
    """Return (teachers,) batch mean entropies at the temperatures."""
    values = temperatures.to(logits[0].device, torch.float64)
    return torch.stack(
        [categorical_entropy(z / tau).mean() for z, tau in zip(logits, values.unbind(), strict=True)]
    )


def _detached(logits: Sequence[Tensor]) -> list[Tensor]:
    """Return the logits in float64, checked."""
    if len(logits) < 2:
        raise ValueError(f"logits must be of at least two teachers, got {len(logits)}")
    for index, teacher in enumerate(logits):
        _checks.require_floating(f"logits[{index}]", teacher)
        if teacher.shape[-1] != logits[0].shape[-1]:
            raise ValueError(
                f"teachers must have the same classes, got {logits[0].shape[-1]} and {teacher.shape[-1]}"
            )
        if teacher.device != logits[0].device:
            raise ValueError(f"teachers must be on one device, got {logits[0].device} and {teacher.device}")
        if teacher.numel() == 0:
            raise ValueError(f"logits[{index}] must not be empty, got shape {tuple(teacher.shape)}")
    return [teacher.detach().double() for teacher in logits]


def _require_bounds(low: float, high: float) -> tuple[float, float]:
    low = _checks.require_positive("low", low)
    return low, _checks.require_number("high", high, low=low)
