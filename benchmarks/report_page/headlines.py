"""One plain sentence for each task and quantity: which method is better, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from entroreg.benchmarks.report_page.comparisons import BETTER
from entroreg.benchmarks.report_page.formatting import count_text, estimate_text, ratio_text

__all__ = ["FEW_SEEDS", "Span", "first_comparisons", "headline", "how_much", "measurements_of", "ranked_methods"]

FEW_SEEDS = 5  # below, an interval that excludes no difference says little

Kind = Literal["", "task", "quantity", "method", "better", "even"]
Json = Mapping[str, Any]


class Span(NamedTuple):
    """A part of a sentence and what it is."""

    text: str
    kind: Kind = ""


def measurements_of(suite: Json, comparison: Json) -> dict[str, Json]:
    """Return the measurements that a comparison is of, by method."""
    at = (comparison["task"], comparison["quantity"])
    return {one["method"]: one for one in suite["measurements"] if (one["task"], one["quantity"]["name"]) == at}


def ranked_methods(comparison: Json) -> list[str]:
    """Return the methods of a comparison, the best first, then those without a result, then bounds."""
    best = [] if comparison["best"] is None else [comparison["best"]]
    others = [other["method"] for other in comparison["others"]]
    return [*best, *others, *comparison["without_result"], *comparison["bounds"]]


def first_comparisons(suite: Json) -> list[Json]:
    """Return the comparison of each task's first quantity."""
    first: dict[str, Json] = {}
    for comparison in suite["comparisons"]:
        first.setdefault(comparison["task"], comparison)
    return list(first.values())


def headline(suite: Json, comparison: Json) -> list[Span]:
    """Return the sentence of a comparison, in parts.

    Args:
        suite: of the results.
        comparison: one of its comparisons.

    Returns:
        Such as ``CartPole-v1, return: sac 500 [490, 500] against dqn 92 [72, 124]: better by 408 [366, 428] (5 of 5
        seeds each)``.
    """
    found = measurements_of(suite, comparison)
    spans = [Span(comparison["task"], "task"), Span(", "), Span(comparison["quantity"], "quantity"), Span(": ")]
    if comparison["best"] is None:
        spans.append(Span("no result"))
    else:
        spans += _best(found, comparison)
    for method in comparison["without_result"]:
        spans += [Span("; "), Span(method, "method"), Span(f" without a result, {_count(found[method])}")]
    return spans


def how_much(other: Json, unit: str) -> str:
    """Return what the best is beside another: ``better by 3 [2, 4]``, ``1.86 [1.81, 1.92] times as fast``."""
    if other["kind"] == "ratio":
        return f"{ratio_text(other['value'], other['interval'])} times as fast"
    return f"better by {estimate_text(other['value'], other['interval'], unit)}"


def _best(found: Mapping[str, Json], comparison: Json) -> Iterator[Span]:
    best, others = found[comparison["best"]], comparison["others"]
    yield Span(best["method"], "method")
    yield Span(f" {_value(best)}")
    if not others:
        yield Span(f" alone ({_count(best)})")
        return
    second = found[others[0]["method"]]
    yield Span(" against ")
    yield Span(second["method"], "method")
    yield Span(f" {_value(second)}: ")
    yield _verdict(others[0], best["quantity"])
    counts = list(dict.fromkeys([_count(best), _count(second)]))
    yield Span(f" ({counts[0]} each" if len(counts) == 1 else f" ({counts[0]} against {counts[1]}")
    few = best["quantity"]["over"] == "seed" and min(best["done"], second["done"]) < FEW_SEEDS
    yield Span("; few seeds)" if few else ")")
    if len(others) > 1:
        worse = sum(other["verdict"] == BETTER for other in others)
        share = "all" if worse == len(others) else f"{worse} of"
        yield Span(f"; shown better than {share} {len(others)} others")


def _verdict(other: Json, quantity: Json) -> Span:
    how = how_much(other, quantity["unit"])
    if other["verdict"] == BETTER:
        return Span(how, "better")
    single = f"a single {quantity['over']}, " if other["interval"] is None else ""
    return Span(f"no difference shown ({single}{how.removeprefix('better by ')})", "even")


def _value(measurement: Json) -> str:
    return estimate_text(measurement["value"], measurement["interval"], measurement["quantity"]["unit"])


def _count(measurement: Json) -> str:
    return count_text(measurement["done"], measurement["expected"], measurement["quantity"]["over"])
