"""The report of a run: one HTML page that needs nothing but itself, and its figures as files."""

from tract_core.report.browser import Cot, Shown, choose_shown
from tract_core.report.figures import write_figures
from tract_core.report.page import Report, render

__all__ = ["Cot", "Report", "Shown", "choose_shown", "render", "write_figures"]
