"""The numbers of a suite as rows, the same for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from entroreg.benchmarks.report_page.formatting import count_text, estimate_text, quantity_text
from entroreg.benchmarks.report_page.headlines import how_much, measurements_of, ranked_methods

__all__ = ["COLUMNS", "Group", "TableRow", "environment_rows", "failure_rows", "groups_of"]

COLUMNS = ("Method", "Value [95 % interval]", "The best is", "Verdict", "Done")

Json = Mapping[str, Any]


class TableRow(NamedTuple):
    """A method of a group; ``cells`` are those of `COLUMNS`."""

    cells: tuple[str, ...]
    standing: str
    """``best``, ``even``, ``worse`` or ``bound``."""


class Group(NamedTuple):
    """The methods of a task and quantity, the best first."""

    task: str
    quantity: str
    rows: list[TableRow]


def groups_of(suite: Json) -> Iterator[Group]:
    """Return the summary table of a suite of the results."""
    for comparison in suite["comparisons"]:
        found = measurements_of(suite, comparison)
        against = {other["method"]: other for other in comparison["others"]}
        rows = [_row(found[method], against.get(method), comparison) for method in ranked_methods(comparison)]
        quantity = next(iter(found.values()))["quantity"]
        yield Group(comparison["task"], quantity_text(quantity), rows)


def environment_rows(suite: Json) -> list[tuple[str, str]]:
    """Return what a suite of the results ran on, with the versions."""
    provenance = dict(suite["provenance"])
    packages = provenance.pop("packages", None) or {}
    if isinstance(provenance.get("command"), list):
        provenance["command"] = " ".join(provenance["command"])
    rows = [(name.replace("_", " "), _text(value)) for name, value in sorted(provenance.items())]
    return rows + [(name, _text(version)) for name, version in sorted(packages.items()) if version is not None]


def failure_rows(suite: Json) -> list[str]:
    """Return a line for each task and method with cells that are not done: ``4 of 5 seeds``, and why."""
    groups: dict[tuple[str, str | None], list[Json]] = {}
    for cell in suite["cells"]:
        groups.setdefault((cell["task"], cell["method"]), []).append(cell)
    rows = []
    for (task, method), cells in groups.items():
        lost = [cell for cell in cells if cell["status"] != "done"]
        if lost:
            count = count_text(len(cells) - len(lost), len(cells), "seed")
            rows.append(f"{task}, {method}: {count}; {_whys(lost)}")
    return rows


def _whys(lost: list[Json]) -> str:
    seeds: dict[str, list[str]] = {}
    for cell in lost:
        seeds.setdefault(cell["error"] or "not run", []).append(str(cell["seed"]))
    return "; ".join(f"seed{'s' * (len(its) > 1)} {', '.join(its)}: {why}" for why, its in seeds.items())


def _row(measurement: Json, other: Json | None, comparison: Json) -> TableRow:
    quantity = measurement["quantity"]
    count = count_text(measurement["done"], measurement["expected"], quantity["over"])
    if measurement["value"] is None:
        return TableRow((measurement["method"], "no result", "", "", count), "worse")
    value = estimate_text(measurement["value"], measurement["interval"], quantity["unit"])
    if measurement["method"] in comparison["bounds"]:
        return TableRow((measurement["method"], value, "", "a bound, no rival", count), "bound")
    if other is None:
        verdict = "best" if comparison["others"] else ""
        return TableRow((measurement["method"], value, "", verdict, count), "best")
    shown = other["verdict"] == "better"
    verdict = "worse" if shown else other["verdict"]
    return TableRow(
        (measurement["method"], value, how_much(other, quantity["unit"]), verdict, count),
        "worse" if shown else "even",
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
