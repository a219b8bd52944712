"""How figures are drawn: as SVG for the page and as files.

The bytes depend on the numbers alone: no date, no random ids, fonts that matplotlib ships. In the page, the
colours below become CSS variables, so that a figure follows dark mode; the files keep them, on white.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tract_core.base import tables

INK, SURFACE, GRID, GREY = "#1b1f24", "#ffffff", "#d3d8de", "#6a737d"
SERIES = ("#0b5cad", "#b3470f", "#1a7f4b", "#7b3fa0", "#8a6d00", "#b0205f")
MARKERS = ("o", "s", "^", "D", "v", "P")
_VARIABLES = {INK: "--ink", SURFACE: "--surface", GRID: "--grid", GREY: "--figure-grey"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES)
}
_STYLE: Any = {
    "svg.hashsalt": "tract",
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": SURFACE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": SURFACE,
}
_DPI = 150


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing; `note` says what is left out."""

    name: str
    title: str
    draw: Callable[[Axes], None]
    note: str = ""
    height: float = 3.6
    """Inches; all are 5.2 wide, so that text stays readable on a phone."""


def inline_svg(panel: Panel) -> str:
    """The drawing as an `<svg>` element whose colours are CSS variables and whose ids no other panel has."""
    text = save(panel, "svg").decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style).*?</\1>|<style[^>]*/>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{panel.name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{panel.name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)


def write_figures(panels: Sequence[Panel], folder: str | Path) -> list[Path]:
    """Write each figure as SVG and PNG.

    Args:
        panels: in the order of the page.
        folder: is made where it is missing.

    Returns:
        The files, in the order of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for panel in panels:
        for suffix in ("svg", "png"):
            file = folder / f"{panel.name}.{suffix}"
            with tables.atomic_file(file) as draft:
                draft.write_bytes(save(panel, suffix))
            written.append(file)
    return written


def save(panel: Panel, suffix: str) -> bytes:
    """The bytes of one drawing, `svg` or `png`."""
    metadata: dict[str, Any] = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, panel.height), layout="constrained")
        axes = figure.add_subplot()
        panel.draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=2)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=metadata, dpi=_DPI)
    return buffer.getvalue()
