"""The report of a comparison: one page that needs no network, figures for a paper, and the numbers."""

from plausible.report.page import write
from plausible.report.results import ReportError, Results, load

__all__ = ["ReportError", "Results", "load", "write"]
