"""The parts of the page: what failed, headlines, and a section for each suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from entroreg.benchmarks.report_page.charts import curve_charts, grid_charts, interval_charts
from entroreg.benchmarks.report_page.headlines import Span, first_comparisons, headline
from entroreg.benchmarks.report_page.markup import Markup, lines, tag
from entroreg.benchmarks.report_page.pictures import Picture
from entroreg.benchmarks.report_page.tables import COLUMNS, environment_rows, failure_rows, groups_of

__all__ = ["HOW_TO_READ", "failures", "headlines", "pictures_section", "suite_section"]

HOW_TO_READ = (
    "A value is the interquartile mean over seeds; of rounds and of times, the median. In brackets: its 95 % "
    "bootstrap interval.",
    "Better: the 95 % interval of the difference excludes 0, or of a ratio 1. Else no difference is shown, which "
    "does not say that there is none.",
    "With few seeds this is weak: two equal methods would be told apart about once in 4 times with 3 seeds, once "
    "in 10 with 5, once in 20 with 10. More often where the best is picked from many.",
)

Json = Mapping[str, Any]


def failures(results: Json) -> Markup:
    """Return what failed or is missing, nothing where all cells are done."""
    items = []
    for suite in results["suites"]:
        items += [tag("li", tag("b", suite["title"]), f": {row}") for row in failure_rows(suite)]
    if not items:
        return Markup("")
    lost = [cell for suite in results["suites"] for cell in suite["cells"] if cell["status"] != "done"]
    failed = sum(cell["status"] == "failed" for cell in lost)
    title = f"{failed} of the cells failed, {len(lost) - failed} were not run"
    return tag("div", tag("h2", title), tag("ul", lines(items)), class_="failures", id="failures")


def headlines(results: Json) -> Markup:
    """Return a sentence for the first quantity of each task of each suite."""
    blocks = []
    for index, suite in enumerate(results["suites"]):
        heading = tag("h3", tag("a", suite["title"], href=f"#suite-{index}"))
        sentences = tag("p", _about(suite), class_="soft"), _sentences(suite, first_comparisons(suite))
        blocks.append(tag("div", heading, *sentences))
    return tag("div", lines(blocks), class_="suites")


def suite_section(index: int, suite: Json, summary: Json) -> Markup:
    """Return all of a suite: table, charts, environment, commands."""
    parts = [tag("h2", suite["title"]), tag("p", _about(suite), class_="soft")]
    first = first_comparisons(suite)
    further = [one for one in suite["comparisons"] if one not in first]
    parts.append(_sentences(suite, first))
    if further:
        parts.append(_details("Sentences for the other quantities", _sentences(suite, further)))
    parts.append(_summary_table(suite))
    parts += _charts("Methods, best on top", interval_charts(suite), _legend())
    parts += _charts("Curves: interquartile mean over seeds, 95 % interval", curve_charts(suite, summary))
    grids = list(grid_charts(suite, summary))
    parts += [tag("h3", "Robustness"), *grids] if grids else []
    parts.append(_details("Environment and versions", _environment(suite)))
    commands = [tag("li", tag("code", cell["command"])) for cell in suite["cells"]]
    several = tag("ul", lines(commands), class_="commands")
    parts.append(_details(f"Commands that run each of the {len(commands)} cells again", several))
    return tag("section", lines(parts), id=f"suite-{index}")


def pictures_section(pictures: Sequence[Picture]) -> Markup:
    """Return the pictures with their names, nothing where there are none."""
    if not pictures:
        return Markup("")
    figures = []
    for one in pictures:
        caption = tag("figcaption", one.name if one.uri else f"{one.name}: {one.note}")
        if one.uri is not None:
            image = tag("img", src=one.uri, alt=one.name, width=str(one.width), height=str(one.height))
            figures.append(tag("figure", image, caption))
        else:
            figures.append(tag("figure", caption))
    return tag("section", tag("h2", "Pictures"), tag("div", lines(figures), class_="pictures"), id="pictures")


def _about(suite: Json) -> str:
    return f"{suite['description']} (preset {suite['preset']})"


def _sentences(suite: Json, comparisons: Iterable[Json]) -> Markup:
    items = []
    for comparison in comparisons:
        spans = headline(suite, comparison)
        better = any(span.kind == "better" for span in spans)
        items.append(tag("li", *map(_span, spans), class_="better" if better else None))
    return tag("ul", lines(items), class_="headlines")


def _span(span: Span) -> str:
    if span.kind == "":
        return span.text
    classes = {"better": "verdict better", "even": "verdict"}
    return tag("span", span.text, class_=classes.get(span.kind, span.kind))


def _summary_table(suite: Json) -> Markup:
    rows = [tag("tr", *(tag("th", column, scope="col") for column in COLUMNS), class_="columns")]
    for group in groups_of(suite):
        heading = tag("th", f"{group.task}: {group.quantity}", colspan=str(len(COLUMNS)), scope="colgroup")
        rows.append(tag("tr", heading, class_="group"))
        for row in group.rows:
            rows.append(tag("tr", *(tag("td", cell) for cell in row.cells), class_=row.standing))
    table = tag("div", tag("table", lines(rows), class_="methods"), class_="wide")
    return tag("details", tag("summary", tag("h3", "Summary table")), table, open="")


def _legend() -> Markup:
    def key(standing: str, told: str) -> list[str]:
        return [tag("span", "", class_=f"key {standing}"), f" {told} "]

    parts = [*key("best", "best,"), *key("even", "no difference from the best shown,"), *key("worse", "worse;")]
    return tag("p", *parts, "bar: 95 % interval; small dots: single values", class_="soft")


def _charts(title: str, figures: Iterable[Markup], note: Markup | None = None) -> list[Markup]:
    found = list(figures)
    if not found:
        return []
    return [tag("h3", title), *([note] if note else []), tag("div", lines(found), class_="charts")]


def _environment(suite: Json) -> Markup:
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", text)) for name, text in environment_rows(suite)]
    return tag("div", tag("table", lines(rows)), class_="wide")


def _details(title: str, content: Markup) -> Markup:
    return tag("details", tag("summary", title), content)
