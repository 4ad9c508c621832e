"""Fixed, Scheduled, targets, and what every scalar controller promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from entroreg.controllers import Controller, Dual, Fixed, Scheduled
from entroreg.controllers.target import require_reachable, target_at
from entroreg.schedules import CosineSchedule, LinearSchedule

CONTROLLERS: dict[str, Callable[[], Controller]] = {
    "fixed": lambda: Fixed(0.3),
    "scheduled": lambda: Scheduled(LinearSchedule(1.0, 0.0, steps=8)),
    "dual lower": lambda: Dual(-1.0, learning_rate=0.05),
    "dual upper": lambda: Dual(CosineSchedule(-1.0, 0.0, steps=8), bound="upper", loss="alpha", learning_rate=0.05),
}
every = pytest.mark.parametrize("make", CONTROLLERS.values(), ids=CONTROLLERS)


def _run(controller: Controller, count: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    alphas = []
    for _ in range(count):
        alphas.append(float(controller.value))
        metrics = controller.update(torch.randn(4, generator=generator))
        assert float(metrics["alpha"]) == alphas[-1]
    return [*alphas, float(controller.value)]


@every
def test_the_protocol_is_kept(make: Callable[[], Controller]) -> None:
    controller = make()
    assert isinstance(controller, Controller)
    assert controller.value.shape == ()
    assert controller.value.dtype == torch.float32
    assert not controller.value.requires_grad
    entropy = torch.tensor([1.0, 2.0], requires_grad=True)
    metrics = controller.update(entropy)
    assert {"alpha", "entropy"} <= set(metrics)
    assert float(metrics["entropy"]) == 1.5
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    assert controller.to("cpu") is controller
    assert float(controller.value) >= 0.0


@every
def test_a_reloaded_controller_continues_bit_for_bit(make: Callable[[], Controller]) -> None:
    controller = make()
    _run(controller, 5, seed=0)
    state = controller.state_dict()
    expected = _run(controller, 6, seed=1)
    for _ in range(2):
        other = make()
        other.load_state_dict(state)
        assert _run(other, 6, seed=1) == expected


@every
def test_unknown_and_missing_keys_raise(make: Callable[[], Controller]) -> None:
    controller = make()
    state = controller.state_dict()
    name = type(controller).__name__
    with pytest.raises(
        ValueError, match=rf"^state of {name} does not fit: missing keys \[\], unknown keys \['more'\]$"
    ):
        controller.load_state_dict({**state, "more": 1})
    for key in state:
        less = {other: value for other, value in state.items() if other != key}
        with pytest.raises(
            ValueError, match=rf"^state of {name} does not fit: missing keys \['{key}'\], unknown keys \[\]$"
        ):
            controller.load_state_dict(less)


def test_fixed_does_not_move_and_its_state_is_a_copy() -> None:
    controller = Fixed(0.25)
    assert _run(controller, 3, seed=0) == [0.25] * 4
    state = controller.state_dict()
    state["value"] += 1.0
    assert float(controller.value) == 0.25
    controller.load_state_dict({"value": 0.5})
    assert float(controller.value) == 0.5
    assert controller.value.dtype == torch.float32
    assert float(Fixed(0).value) == 0.0


def test_scheduled_follows_the_update_count() -> None:
    controller = Scheduled(lambda step: 0.5**step)
    assert _run(controller, 4, seed=0) == [1.0, 0.5, 0.25, 0.125, 0.0625]
    controller.load_state_dict({"step": 2})
    assert float(controller.value) == 0.25


def test_fixed_raises() -> None:
    for bad, shown in ((-0.1, "-0.1"), (math.nan, "nan"), (math.inf, "inf")):
        with pytest.raises(ValueError, match=rf"^value must be finite and at least 0, got {shown}$"):
            Fixed(bad)
    for kind in ("0.1", True, None, torch.tensor(0.1)):
        with pytest.raises(TypeError, match=rf"^value must be a number, got {type(kind).__name__}$"):
            Fixed(kind)  # type: ignore[arg-type]


def test_scheduled_raises_at_once_and_later() -> None:
    with pytest.raises(TypeError, match=r"^schedule must be callable, got float: use Fixed for a constant$"):
        Scheduled(0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^schedule\(0\) must be a number, got str$"):
        Scheduled(lambda step: "x")  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"^schedule\(0\) must be finite and at least 0, got -1.0$"):
        Scheduled(lambda step: -1.0)
    controller = Scheduled(LinearSchedule(1.0, -1.0, steps=2))
    controller.update(torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"^schedule\(2\) must be finite and at least 0, got -1.0$"):
        controller.update(torch.tensor(0.0))


def test_targets() -> None:
    assert target_at(-2, 5) == -2.0
    assert target_at(lambda step: 0.5 * step, 3) == 1.5
    with pytest.raises(ValueError, match=r"^target entropy must be finite, got nan$"):
        target_at(lambda step: math.nan, 0)
    with pytest.raises(TypeError, match=r"^target entropy must be a number, got list$"):
        target_at([1.0], 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "bound", "fits"),
    [
        *((0.9, "lower", True), (1.0, "lower", False), (1.1, "lower", False), (-9.0, "lower", True)),
        *((0.1, "upper", True), (0.0, "upper", False), (-0.1, "upper", False), (9.0, "upper", True)),
    ],
)
def test_reachable_targets(target: float, bound: str, fits: bool) -> None:
    if fits:
        require_reachable(target, bound, 0.0, 1.0)
        return
    end = "below 1.0000 nats, the largest" if bound == "lower" else "above 0.0000 nats, the smallest"
    with pytest.raises(ValueError, match=rf"^target entropy must be {end} entropy any policy has here, got "):
        require_reachable(target, bound, 0.0, 1.0)
