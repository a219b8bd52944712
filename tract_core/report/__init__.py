"""The report of a run: one HTML page that needs nothing but itself, and its figures as files."""

from tract_core.report.browser import Cot, Selection, Shown, select
from tract_core.report.figures import write_figures
from tract_core.report.page import Report, panels, render

__all__ = ["Cot", "Report", "Selection", "Shown", "panels", "render", "select", "write_figures"]
