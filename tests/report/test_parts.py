"""The parts that a page is made of: numbers as text, axes, charts."""

from __future__ import annotations

import doctest
import importlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroreg.benchmarks.report_page.formatting import estimate_text, ratio_text, shorten
from entroreg.benchmarks.report_page.heat_map import Grid, heat_map
from entroreg.benchmarks.report_page.interval_chart import Row, interval_chart
from entroreg.benchmarks.report_page.line_chart import Point, Series, line_chart
from entroreg.benchmarks.report_page.svg import Axis, ticks

FINITE = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9)


@pytest.mark.parametrize(("name", "examples"), [("markup", 2), ("formatting", 8), ("svg", 1), ("results", 1)])
def test_doctests(name, examples):
    result = doctest.testmod(importlib.import_module(f"entroreg.benchmarks.report_page.{name}"))
    assert (result.failed, result.attempted) == (0, examples)


@given(FINITE, FINITE, FINITE)
def test_numbers_keep_what_their_interval_bears(a, b, c):
    low, value, high = sorted((a, b, c))
    shown = [
        float(number) for number in re.findall(r"-?\d+\.?\d*(?:e[+-]?\d+)?", estimate_text(value, [low, high]))
    ]
    room = max(0.051 * (high - low), 1e-3 * max(abs(low), abs(high)))
    assert shown == [pytest.approx(x, abs=room) for x in (value, low, high)]


def test_an_interval_without_zero_does_not_show_one():
    assert estimate_text(0.13, [0.001, 0.21]) == "0.13 [0.001, 0.21]"
    assert ratio_text(1.05, [1.001, 1.1]) == "1.05 [1.001, 1.10]"
    assert estimate_text(0.1, [0.0, 0.2]) == "0.10 [0.00, 0.20]"


@given(st.text(max_size=60), st.integers(3, 30))
def test_shortened_names_fit(text, length):
    cut = shorten(text, length)
    assert cut == text if len(text) <= length else len(cut) == length and "…" in cut


@given(FINITE, st.floats(1e-6, 1e9))
def test_ticks_lie_on_the_axis_and_are_few(low, width):
    high = low + width
    if high <= low or width < 1e-9 * abs(low):
        return
    found = ticks(low, high)
    assert 2 <= len(found) <= 12
    assert all(low - 1e-6 * width <= x <= high + 1e-6 * width for x in found)


def test_logarithmic_axis_has_equal_ratios_equally_long():
    axis = Axis(0.001, 10.0, 200.0, 0.0, log=True)
    assert [text for _, text in axis.ticks()] == ["0.001", "0.01", "0.1", "1", "10"]
    assert [position for position, _ in axis.ticks()] == pytest.approx([200, 150, 100, 50, 0])
    assert axis.at(1e-9) == 200.0


def test_interval_chart_puts_numbers_where_they_are():
    rows = [Row("fast", "2 ms", 2.0, [1.0, 3.0], [1.0, 2.0, 3.0], "best"), Row("slow", "4 ms", 4.0, [4.0, 4.0])]
    drawn = interval_chart("times", [*rows, Row("gone", "no result", None)], "ms", from_zero=True)
    fast, slow = (float(x) for x in re.findall(r'cx="([\d.]+)" cy="\d+" r="5"', drawn))
    assert (slow - 14) / (fast - 14) == pytest.approx(2.0, abs=0.01)  # from zero: lengths as the numbers
    assert drawn.count('r="2"') == 3
    assert drawn.index(">fast<") < drawn.index(">slow<") < drawn.index(">gone<")
    assert drawn.startswith('<svg role="img"')
    assert "<title>times</title>" in drawn


def test_interval_chart_without_any_value():
    assert "no result" in interval_chart("x", [Row("a", "no result", None)], "y", from_zero=False)


def test_line_chart_tells_curves_apart_without_colour():
    series = [Series(f"m{k}", [Point(0, k, k, k), Point(1, k, k - 0.5, k + 0.5)]) for k in range(4)]
    drawn = line_chart("curves", series, "step")
    dashes = [
        re.search(r"stroke-dasharray", path) is not None
        for path in re.findall(r'<path[^>]*class="line"[^>]*>', drawn)
    ]
    assert dashes == [False, True, True, True]
    assert len(set(re.findall(r'stroke-dasharray="([^"]*)"', drawn))) == 3
    assert drawn.count('class="band"') == 4
    assert "crowded" not in drawn


def test_crowded_line_chart_shows_the_last_intervals_apart():
    series = [Series(f"m{k}", [Point(0, 0, 0, 0), Point(1, k, k - 0.5, k + 0.5)]) for k in range(8)]
    drawn = line_chart("curves", series, "step")
    xs = re.findall(r'<line x1="([\d.]+)" x2="\1" y1="[\d.]+" y2="[\d.]+" class="line"/>', drawn)
    assert len(set(xs)) == 8
    assert "m7: 7 [6.5, 7.5] at 1" in drawn


def test_heat_map_is_upright_and_marks_the_own_values():
    grid = Grid(
        ["mass", "friction"], [[1.0, 2.0, 3.0], [10.0, 20.0]], [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [2.0, 15.0]
    )
    drawn = heat_map("x", grid, 0.0, 5.0)
    places = {
        told: (float(x), float(y), colour)
        for x, y, colour, told in re.findall(
            r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*fill="(#\w+)"><title>([^<]*)</title>', drawn
        )
    }
    low, high = places["mass 1, friction 10: 0"], places["mass 3, friction 20: 5"]
    assert low[1] > high[1]  # more mass is further up
    assert low[0] < high[0]
    assert (low[2], high[2]) == ("#440154", "#fde725")
    cross = re.search(r'd="M([\d.]+) ([\d.]+)l[^"]*" class="cross"', drawn)
    assert [float(cross[1]) + 4, float(cross[2]) + 4] == pytest.approx([44 + 80, 4 + 80])
    assert "cross" not in heat_map("x", grid._replace(nominal=[2.0, None]), 0.0, 5.0)
