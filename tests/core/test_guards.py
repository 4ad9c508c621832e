"""Guards: what is not finite is named, and watches say what goes wrong once, also where they are stored between."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from entroreg.guards import (
    CollapseWatch,
    EntropyCollapseWarning,
    EntropyWarning,
    RunawayWatch,
    TemperatureRunawayWarning,
    categorical_floor,
    gaussian_floor,
    require_finite,
)

ARRAYS = st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.sampled_from([0.0, -1.5, 7.0, math.nan, math.inf, -math.inf]),
    )
)


def _first_bad(values: np.ndarray) -> tuple[tuple[int, ...], float] | None:
    """By a loop, in the order of the indices."""
    for index in np.ndindex(values.shape):
        value = float(values[index])
        if value != value or value in (math.inf, -math.inf):
            return index, value
    return None


@given(ARRAYS)
@example(np.array([[1.0, np.inf], [np.nan, 0.0]], np.float32))
@example(np.zeros((0, 3)))
def test_the_first_value_that_is_not_finite_is_named_and_nothing_else_raises(values: np.ndarray) -> None:
    expected = _first_bad(values)
    for given_ in (values, torch.from_numpy(np.array(values))):
        if expected is None:
            require_finite("loss", given_, at="update 3", advice="do")
            continue
        index, value = expected
        where = f" in element {index}" if index else ""
        with pytest.raises(FloatingPointError) as found:
            require_finite("loss", given_, at="update 3", advice="do")
        assert str(found.value) == f"loss became {value}{where} at update 3: do"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_dtype_and_a_graph(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    require_finite("loss", values * 2, at="update 1", advice="do")
    with pytest.raises(FloatingPointError, match=r"^loss became inf in element \(0,\) at update 1: do$"):
        require_finite("loss", values / 0, at="update 1", advice="do")


@pytest.mark.parametrize("values", [3, 0.5, np.arange(4), torch.arange(3), np.array(["a"]), torch.tensor([True])])
def test_what_is_no_float_is_finite(values: Any) -> None:
    require_finite("count", values, at="step 0", advice="do")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_has_no_index(value: float) -> None:
    with pytest.raises(FloatingPointError, match=rf"^reward became {value} at step 9: look$"):
        require_finite("reward", value, at="step 9", advice="look")


def test_a_permuted_view_is_indexed_as_it_is_seen() -> None:
    values = torch.zeros(2, 3)
    values[1, 0] = math.nan
    with pytest.raises(FloatingPointError, match=r"in element \(0, 1\)"):
        require_finite("x", values.T, at="step 0", advice="do")


def _said(action: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    assert all(issubclass(one.category, EntropyWarning) for one in caught)
    return [str(one.message) for one in caught]


def _collapse(watch: CollapseWatch, entropies: list[float], floor: float = 0.1, first: int = 0) -> list[str]:
    def feed() -> None:
        for step, entropy in enumerate(entropies, start=first):
            watch.update(entropy, floor=floor, at=f"step {step}", advice="do")

    return _said(feed)


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 6))
def test_a_collapse_is_said_at_the_end_of_the_first_run_of_low_readings(low: list[bool], readings: int) -> None:
    expected = next((i for i in range(len(low)) if i + 1 >= readings and all(low[i + 1 - readings : i + 1])), None)
    found = _collapse(CollapseWatch(readings=readings), [0.05 if one else 0.2 for one in low])
    assert [message.split(" at ")[1].split(",")[0] for message in found] == (
        [] if expected is None else [f"step {expected}"]
    )


def test_the_floor_itself_is_no_collapse() -> None:
    assert _collapse(CollapseWatch(readings=1), [0.1]) == []
    assert len(_collapse(CollapseWatch(readings=1), [math.nextafter(0.1, 0.0)])) == 1


def _temperatures(watch: RunawayWatch, pairs: list[tuple[float, float]], first: int = 0) -> list[str]:
    def feed() -> None:
        for step, (temperature, violation) in enumerate(pairs, start=first):
            watch.update(temperature, violation=violation, at=f"step {step}")

    return _said(feed)


RISING = [2.0**step for step in range(20)]


def test_a_temperature_runs_away_where_entropy_does_not_answer() -> None:
    (found,) = _temperatures(RunawayWatch(), [(alpha, 0.5) for alpha in RISING])
    # The tenth reading after the first is 1,024 times the first.
    assert found.startswith(
        "temperature runs away: 1.02e+03 at step 10, 1.02e+03 times what it was 10 readings before"
    )
    assert "entropy is still 0.5 nats from its target, which may be out of reach: choose a target that" in found


def test_growth_alone_is_not_enough_and_neither_are_readings() -> None:
    slow = [1.05**step for step in range(40)]  # 6.7 times
    assert _temperatures(RunawayWatch(), [(alpha, 0.5) for alpha in slow]) == []
    assert _temperatures(RunawayWatch(), [(10.0**step, 0.5) for step in range(10)]) == []
    assert len(_temperatures(RunawayWatch(), [(10.0**step, 0.5) for step in range(11)])) == 1


def test_entropy_that_answers_is_no_runaway() -> None:
    answered = [0.01, 0.4, 0.9, 0.7, 0.5, *([0.44] * 15)]  # below half of its largest
    assert _temperatures(RunawayWatch(), list(zip(RISING, answered, strict=True))) == []
    assert len(_temperatures(RunawayWatch(), list(zip(RISING, [*answered[:-1], 0.45], strict=True)))) == 1
    assert _temperatures(RunawayWatch(), [(alpha, -0.5) for alpha in RISING]) == []


def test_a_fall_begins_anew() -> None:
    twice = [*RISING[:8], 100.0, *[100.0 * 1.5**step for step in range(1, 11)]]  # 128, 100: then 58 times
    assert _temperatures(RunawayWatch(), [(alpha, 0.5) for alpha in twice]) == []
    assert len(_temperatures(RunawayWatch(), [(alpha, 0.5) for alpha in [*twice, 1e4]])) == 1


def test_a_temperature_at_its_maximum_is_said() -> None:
    (found,) = _temperatures(RunawayWatch(maximum=0.5), [(0.49995, 0.3)] * 12)
    assert found == (
        "temperature has been at its maximum, 0.5, for 10 readings up to step 9, and entropy is still 0.3 nats "
        "from its target: raise the maximum, or choose a target that is easier to reach"
    )
    assert _temperatures(RunawayWatch(maximum=0.5), [(0.49, 0.3)] * 12) == []
    assert _temperatures(RunawayWatch(maximum=0.5), [(0.5, -0.3)] * 12) == []
    assert _temperatures(RunawayWatch(maximum=0.5), [(0.5, 0.3)] * 9 + [(0.5, -0.1)] + [(0.5, 0.3)] * 9) == []


def _through_json(watch: Any, kind: Any) -> Any:
    other = kind()
    other.load_state_dict(json.loads(json.dumps(watch.state_dict())))
    return other


READING = st.tuples(st.sampled_from([0.1, 1.0, 3.0, 30.0, 300.0]), st.sampled_from([-1.0, 0.2, 1.0]))


@given(st.lists(READING, max_size=25), st.integers(0, 25))
@example([(0.1, 1.0), (1.0, 1.0), (3.0, 0.2)], 2)  # the largest violation counts from before
@example([(300.0, 0.2), (300.0, 0.2)], 1)  # and so do readings at the maximum
def test_a_watch_that_was_stored_says_what_it_would_have_said(pairs: list[tuple[float, float]], cut: int) -> None:
    def runaway() -> RunawayWatch:
        return RunawayWatch(maximum=300.0, readings=2, growth=10.0)

    def collapse() -> CollapseWatch:
        return CollapseWatch(readings=3)

    whole = _temperatures(runaway(), pairs)
    first = runaway()
    parts = _temperatures(first, pairs[:cut])
    second = _through_json(first, runaway)
    assert parts + _temperatures(second, pairs[cut:], cut) == whole
    entropies = [violation for _, violation in pairs]
    whole = _collapse(collapse(), entropies, floor=0.5)
    early = collapse()
    parts = _collapse(early, entropies[:cut], 0.5)
    late = _through_json(early, collapse)
    assert parts + _collapse(late, entropies[cut:], 0.5, cut) == whole


@pytest.mark.parametrize("watch", [CollapseWatch(), RunawayWatch()])
def test_a_state_that_does_not_fit_is_refused(watch: Any) -> None:
    state = watch.state_dict()
    for wrong in ({**state, "more": 1}, {name: value for name, value in state.items() if name != "said"}):
        with pytest.raises(ValueError, match=rf"state of {type(watch).__name__} does not fit"):
            watch.load_state_dict(wrong)


def test_floors_follow_the_target() -> None:
    log_2, log_6 = math.log(2.0), math.log(6.0)
    assert categorical_floor(log_2) == 0.05 * log_2
    assert categorical_floor(log_6, target=0.7 * log_6) == 0.15 * log_6
    assert categorical_floor(log_6, target=0.1 * log_6) == pytest.approx(0.05 * log_6)
    assert categorical_floor(log_2, target=-2.0) == categorical_floor(log_2, target=0.0) == 0.25 * log_2
    assert gaussian_floor(3, target=-3.0) == -12.0
    assert gaussian_floor(3) == -45.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CollapseWatch(readings=0), "readings must be at least 1, got 0"),
        (lambda: RunawayWatch(readings=0), "readings must be at least 1, got 0"),
        (lambda: RunawayWatch(maximum=0.0), "maximum must be finite and above 0, got 0"),
        (lambda: RunawayWatch(growth=0.5), "growth must be finite and at least 1, got 0.5"),
        (lambda: RunawayWatch().update(-1.0, violation=0.0, at=""), "temperature must be finite and at least 0"),
        (lambda: RunawayWatch().update(1.0, violation=math.nan, at=""), "violation must be finite, got nan"),
        (
            lambda: CollapseWatch().update(math.nan, floor=0.0, at="", advice=""),
            "entropy must be finite, got nan",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_warnings_can_be_told_apart_and_silenced_together() -> None:
    assert issubclass(EntropyCollapseWarning, EntropyWarning)
    assert issubclass(TemperatureRunawayWarning, EntropyWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", EntropyWarning)
        CollapseWatch(readings=1).update(0.0, floor=1.0, at="", advice="")
