"""The report of a run: one HTML page that needs nothing but itself, and its figures as files."""

from tract_core.report.browser import Cot, Sample, choose_samples
from tract_core.report.figures import write_figures
from tract_core.report.page import Report, render

__all__ = ["Cot", "Report", "Sample", "choose_samples", "render", "write_figures"]
