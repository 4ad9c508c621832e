"""The report of summaries: one self-contained HTML page, the same as Markdown, and all numbers as JSON."""

from entroreg.benchmarks.report_page.results import results_of
from entroreg.benchmarks.report_page.write import write_report

__all__ = ["results_of", "write_report"]
