"""The committed report is that of the committed results, and README quotes it."""

from __future__ import annotations

import re

from entroreg.benchmarks.bench import pictures_in, summaries_in
from entroreg.benchmarks.report_page import write_report

from .conftest import RESULTS

README = RESULTS.parents[1] / "README.md"


def test_the_committed_report_is_of_the_committed_results(tmp_path):
    summaries = summaries_in(RESULTS)
    made = write_report(list(summaries.values()), pictures_in(RESULTS), tmp_path, titles=list(summaries))
    assert made["markdown"].read_text() == (RESULTS / "report" / "report.md").read_text()


def test_readme_quotes_the_report():
    report = (RESULTS / "report" / "report.md").read_text()
    rows = re.findall(r"^\| [a-z-]+ \| (\*\*.*) \|$", README.read_text(), re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        assert f"  - {row}\n" in report
