"""The report as one HTML page that needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from entroreg.benchmarks.report_page.markup import Markup, lines, tag
from entroreg.benchmarks.report_page.pictures import embedded
from entroreg.benchmarks.report_page.sections import (
    HOW_TO_READ,
    failures,
    headlines,
    pictures_section,
    suite_section,
)

__all__ = ["LIMIT", "html_page"]

LIMIT = 5_000_000  # bytes: what a mail takes and a phone opens
_TAGS = 300  # bytes around a picture's data


def html_page(results: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]], pictures: Sequence[Path]) -> str:
    """Return the page, under `LIMIT` bytes as far as pictures decide it.

    Args:
        results: of `results_of`.
        summaries: that the results are of, for curves and grids.
        pictures: PNG files to put at its end.
    """
    suites = zip(results["suites"], summaries, strict=True)
    sections = [suite_section(index, suite, summary) for index, (suite, summary) in enumerate(suites)]
    bare = _page(results, sections, Markup(""))
    budget = LIMIT - len(bare.encode()) - sum(_TAGS + 2 * len(str(path)) for path in pictures)
    return _page(results, sections, pictures_section(list(embedded(pictures, budget))))


def _page(results: Mapping[str, Any], sections: Sequence[Markup], pictures: Markup) -> str:
    style = resources.files("entroreg.benchmarks.report_page").joinpath("page.css").read_text("utf-8")
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "entroreg: report of benchmarks"),
        tag("style", Markup(style)),
    ]
    cells = [cell for suite in results["suites"] for cell in suite["cells"]]
    done = sum(cell["status"] == "done" for cell in cells)
    body = [
        tag("h1", "Which method is better, and by how much"),
        tag("p", f"entroreg, {len(results['suites'])} suites, {done} of {len(cells)} cells done", class_="soft"),
        failures(results),
        headlines(results),
        tag("details", tag("summary", "How to read this"), *(tag("p", text) for text in HOW_TO_READ)),
        _contents(results, bool(pictures)),
        *sections,
        pictures,
    ]
    page = tag("html", tag("head", lines(head)), "\n", tag("body", lines(part for part in body if part)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _contents(results: Mapping[str, Any], pictures: bool) -> Markup:
    links = [tag("a", suite["title"], href=f"#suite-{index}") for index, suite in enumerate(results["suites"])]
    links += [tag("a", "Pictures", href="#pictures")] if pictures else []
    return tag("nav", tag("ul", lines(tag("li", link) for link in links)), aria_label="Contents")
