"""The report as Markdown: the same sentences and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from entroreg.benchmarks.report_page.headlines import Span, first_comparisons, headline
from entroreg.benchmarks.report_page.sections import HOW_TO_READ
from entroreg.benchmarks.report_page.tables import COLUMNS, environment_rows, failure_rows, groups_of

__all__ = ["markdown_page"]

Json = Mapping[str, Any]


def markdown_page(results: Json) -> str:
    """Return the report of `results_of` as Markdown."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Json) -> Iterator[str]:
    yield from ("# Which method is better, and by how much", "")
    failed = [(suite, row) for suite in results["suites"] for row in failure_rows(suite)]
    if failed:
        yield from ("## Not done", "")
        yield from (f"- **{_plain(suite['title'])}**: {_plain(row)}" for suite, row in failed)
        yield ""
    for suite in results["suites"]:
        yield from (f"- **{_plain(suite['title'])}**: {_plain(suite['description'])} (preset {suite['preset']})",)
        yield from (f"  - {_sentence(suite, one)}" for one in first_comparisons(suite))
    yield from ("", *HOW_TO_READ)
    for suite in results["suites"]:
        yield from _section(suite)


def _section(suite: Json) -> Iterator[str]:
    yield from ("", f"## {_plain(suite['title'])}", "")
    for group in groups_of(suite):
        yield from (f"### {_plain(group.task)}: {_plain(group.quantity)}", "")
        yield from _table(COLUMNS, [row.cells for row in group.rows])
    yield from ("### Environment and versions", "")
    yield from _table(("What", "Value"), environment_rows(suite))
    yield from ("### Commands that run each cell again", "", "```")
    yield from (cell["command"].replace("```", "` ` `") for cell in suite["cells"])
    yield "```"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    yield from (f"| {' | '.join(map(_plain, row))} |" for row in rows)
    yield ""


def _sentence(suite: Json, comparison: Json) -> str:
    return "".join(_span(span) for span in headline(suite, comparison))


def _span(span: Span) -> str:
    text = _plain(span.text)
    return f"**{text}**" if span.kind in {"task", "method", "better", "even"} else text


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", escape(" ".join(text.split(" ")), quote=False)).replace("\n", " ")
