from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroreg.schedules import CosineSchedule, LinearSchedule, from_json, to_json

NUMBERS = st.floats(-100.0, 100.0)
KINDS = pytest.mark.parametrize("kind", [LinearSchedule, CosineSchedule])


@given(start=NUMBERS, end=NUMBERS, steps=st.integers(1, 50))
def test_values(start: float, end: float, steps: int) -> None:
    linear, cosine = LinearSchedule(start, end, steps), CosineSchedule(start, end, steps)
    for t in range(steps + 3):
        fraction = min(t, steps) / steps
        assert linear(t) == pytest.approx((1 - fraction) * start + fraction * end, abs=1e-10)
        half = math.sin(0.5 * math.pi * fraction) ** 2
        assert cosine(t) == pytest.approx((1 - half) * start + half * end, abs=1e-10)
    low, high = min(start, end), max(start, end)
    assert all(low - 1e-10 <= s(t) <= high + 1e-10 for s in (linear, cosine) for t in range(steps + 3))


@KINDS
def test_ends_are_held(kind: type[LinearSchedule] | type[CosineSchedule]) -> None:
    schedule = kind(1.0, 0.0, 4)
    assert [schedule(t) for t in (0, 4, 5, 10**9)] == [1.0, 0.0, 0.0, 0.0]
    assert kind(0.3, 0.7, 1)(0) == pytest.approx(0.3)
    assert kind(0.3, 0.7, 1)(1) == pytest.approx(0.7)


@KINDS
@given(start=NUMBERS, end=NUMBERS, steps=st.integers(1, 10**6))
def test_json_round_trip(kind: type, start: float, end: float, steps: int) -> None:
    schedule = kind(start, end, steps)
    assert from_json(json.loads(json.dumps(to_json(schedule)))) == schedule
    assert from_json(to_json(start)) == start


def test_code_has_no_json() -> None:
    assert to_json(lambda step: 1.0) is None
    assert to_json(2) == 2.0


@KINDS
def test_a_bad_field_raises(kind: type) -> None:
    with pytest.raises(TypeError, match=r"^start must be a number, got str$"):
        kind("1", 0.0, 10)
    with pytest.raises(ValueError, match=r"^end must be finite, got inf$"):
        kind(1.0, math.inf, 10)
    with pytest.raises(ValueError, match=r"^steps must be finite and at least 1, got 0$"):
        kind(1.0, 0.0, 0)


def test_from_json_raises() -> None:
    for bad in ("linear", None, [1.0], True):
        with pytest.raises(TypeError, match=rf"^schedule must be a number, got {type(bad).__name__}$"):
            from_json(bad)
    with pytest.raises(ValueError, match=r"^schedule must be finite, got nan$"):
        from_json(math.nan)
    for kind in ("step", "", 3):
        with pytest.raises(ValueError, match=r"^schedule kind must be one of \['cosine', 'linear'\], got "):
            from_json({"kind": kind, "start": 0.0, "end": 1.0, "steps": 3})
    with pytest.raises(
        ValueError,
        match=r"^linear schedule does not fit: missing keys \['end', 'steps'\], unknown keys \['stop'\]$",
    ):
        from_json({"kind": "linear", "start": 0.0, "stop": 1.0})
    with pytest.raises(ValueError, match=r"^schedule kind must be one of"):
        from_json({"start": 0.0, "end": 1.0, "steps": 3})
