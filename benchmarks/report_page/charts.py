"""The charts of a suite: intervals for each quantity, curves over seeds, heat maps of grids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from entroreg.benchmarks.bench import load_suite
from entroreg.benchmarks.curves import seed_points
from entroreg.benchmarks.readings import curves_of, grid_of
from entroreg.benchmarks.report_page.comparisons import BETTER, EVEN
from entroreg.benchmarks.report_page.formatting import count_text, estimate_text, quantity_text
from entroreg.benchmarks.report_page.headlines import measurements_of, ranked_methods
from entroreg.benchmarks.report_page.heat_map import Grid, colour_bar, heat_map
from entroreg.benchmarks.report_page.interval_chart import Row, Standing, interval_chart
from entroreg.benchmarks.report_page.line_chart import Point, Series, line_chart
from entroreg.benchmarks.report_page.markup import Markup, lines, tag

__all__ = ["curve_charts", "grid_charts", "interval_charts"]

STANDINGS: dict[str, Standing] = {BETTER: "worse", EVEN: "even"}
LOGARITHMIC = {"alpha", "temperature"}  # they fall over orders of magnitude

Json = Mapping[str, Any]


def interval_charts(suite: Json) -> Iterator[Markup]:
    """Return a chart for each task and quantity of a suite of the results."""
    for comparison in suite["comparisons"]:
        found = measurements_of(suite, comparison)
        standings: dict[str, Standing] = {
            other["method"]: STANDINGS[other["verdict"]] for other in comparison["others"]
        }
        standings.update((method, "bound") for method in comparison["bounds"])
        rows = [_row(found[method], standings.get(method, "best")) for method in ranked_methods(comparison)]
        quantity = next(iter(found.values()))["quantity"]
        heading, label = f"{comparison['task']}: {quantity['name']}", quantity_text(quantity)
        yield tag("figure", tag("h4", heading), interval_chart(heading, rows, label, quantity["is_time"]))


def curve_charts(suite: Json, summary: Json) -> Iterator[Markup]:
    """Return a chart for each task and curve of a summary, such as return, entropy and alpha, over seeds."""
    module = load_suite(summary["suite"])
    curves: dict[tuple[str, str], dict[str, list[Sequence[Sequence[float]]]]] = {}
    for cell in summary["cells"]:
        for name, curve in curves_of(module, cell).items():
            methods = curves.setdefault((cell["task"], name), {})
            methods.setdefault(cell.get("method") or "all", []).append(curve)
    expected = _expected(suite)
    for (task, name), methods in curves.items():
        series = []
        for method, found in methods.items():
            points = [Point(*point) for point in seed_points(found)]
            count = count_text(len(found), expected.get((task, method), len(found)), "seed")
            if points:
                series.append(Series(f"{method}, {count}", points))
        if series:
            log = name in LOGARITHMIC and all(point.low > 0 for one in series for point in one.points)
            heading = f"{task}: {name}"
            yield tag("figure", tag("h4", heading), line_chart(f"{heading} over steps", series, "step", log))


def grid_charts(suite: Json, summary: Json) -> Iterator[Markup]:
    """Return the heat maps of each task of a summary, means over seeds, on one scale; lines of one parameter."""
    module = load_suite(summary["suite"])
    tasks: dict[str, dict[str, list[Json]]] = {}
    for cell in summary["cells"]:
        grid = grid_of(module, cell)
        if grid is not None:
            tasks.setdefault(cell["task"], {}).setdefault(cell.get("method") or "all", []).append(grid)
    expected = _expected(suite)
    for task, methods in tasks.items():
        counts = {
            name: count_text(len(its), expected.get((task, name), len(its)), "seed")
            for name, its in methods.items()
        }
        means = {f"{method}, {counts[method]}": _mean_grid(grids) for method, grids in methods.items()}
        if all(len(grid["parameters"]) == 1 for grid in means.values()):
            yield _one_parameter(task, means)
        else:
            yield _maps(task, {name: grid for name, grid in means.items() if len(grid["parameters"]) == 2})


def _row(measurement: Json, standing: Standing) -> Row:
    quantity = measurement["quantity"]
    count = count_text(measurement["done"], measurement["expected"], quantity["over"])
    if measurement["value"] is None:
        return Row(measurement["method"], f"no result, {count}", None)
    missing = "" if measurement["done"] == measurement["expected"] else f", {count}"
    return Row(
        measurement["method"],
        estimate_text(measurement["value"], measurement["interval"], quantity["unit"]) + missing,
        measurement["value"],
        measurement["interval"],
        list(measurement["values"].values()),
        standing,
    )


def _expected(suite: Json) -> dict[tuple[str, str], int]:
    expected: dict[tuple[str, str], int] = {}
    for cell in suite["cells"]:
        key = (cell["task"], cell["method"] or "all")
        expected[key] = expected.get(key, 0) + 1
    return expected


def _mean_grid(grids: Sequence[Json]) -> dict[str, Any]:
    alike = [grid for grid in grids if grid["values"] == grids[0]["values"]]
    return {**grids[0], "returns": np.mean([grid["returns"] for grid in alike], axis=0)}


def _one_parameter(task: str, means: Mapping[str, Json]) -> Markup:
    series = [
        Series(name, [Point(x, y, y, y) for x, y in zip(grid["values"][0], grid["returns"].tolist(), strict=True)])
        for name, grid in means.items()
    ]
    parameter = next(iter(means.values()))["parameters"][0]
    heading = f"{task}: return over {parameter}, mean over seeds"
    return tag("figure", tag("h4", heading), line_chart(heading, series, parameter))


def _maps(task: str, means: Mapping[str, Json]) -> Markup:
    low = min(float(grid["returns"].min()) for grid in means.values())
    high = max(float(grid["returns"].max()) for grid in means.values())
    maps = []
    for name, grid in means.items():
        returns = grid["returns"]
        shown = Grid(grid["parameters"], grid["values"], returns.tolist(), grid["nominal_values"])
        told = f"mean {returns.mean():.4g}, lowest {returns.min():.4g}"
        drawn = heat_map(f"{task}, {name}: {told}", shown, low, high)
        maps.append(tag("figure", tag("h4", name), drawn, tag("figcaption", told)))
    return lines(
        [
            tag("h4", f"{task}: return over two parameters, mean over seeds; the cross is the task's own"),
            colour_bar("return", low, high),
            tag("div", lines(maps), class_="maps"),
        ]
    )
