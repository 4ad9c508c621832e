"""Writing of a report: a page, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entroreg.atomic import write_bytes, write_json
from entroreg.benchmarks.report_page.markdown import markdown_page
from entroreg.benchmarks.report_page.page import html_page
from entroreg.benchmarks.report_page.results import results_of

__all__ = ["write_report"]


def write_report(
    summaries: Sequence[Mapping[str, Any]],
    pictures: Sequence[Path],
    out: Path,
    titles: Sequence[str] | None = None,
) -> dict[str, Path]:
    """Write report.html, report.md and results.json; the same for the same summaries and pictures.

    Args:
        summaries: as ``bench.run_suite`` returns them; a suite may have several.
        pictures: PNG files that the page shows at its end, as many as fit.
        out: the folder, made where it is missing.
        titles: what each summary is called, such as its file's name; its suite's if None.

    Returns:
        The files: ``html``, ``markdown`` and ``json``.

    Raises:
        UserError: a suite is unknown.
        ValueError: there are more or fewer titles than summaries.
        OSError: a picture cannot be read, or a file not be written.
    """
    results = results_of(summaries, titles)
    page = html_page(results, summaries, pictures)
    out.mkdir(parents=True, exist_ok=True)
    written = {"html": out / "report.html", "markdown": out / "report.md", "json": out / "results.json"}
    write_json(written["json"], results)
    write_bytes(written["markdown"], markdown_page(results).encode())
    write_bytes(written["html"], page.encode())
    return written
