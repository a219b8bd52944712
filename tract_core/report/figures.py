"""Figures 2 and 3 and a forest plot of the differences, as SVG for the page and as files.

The bytes depend on the numbers alone: no date, no random ids, fonts that matplotlib ships. In the page, the
colours below become CSS variables, so that a figure follows dark mode; the files keep them, on white.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from tract_core.base import tables
from tract_core.report import paper
from tract_core.report.cells import METRICS, finite
from tract_core.report.comparison import same_benchmarks
from tract_core.score.paper_lines import LINES, MEAN

_INK, _SURFACE, _GRID, _GREY = "#1b1f24", "#ffffff", "#d3d8de", "#6a737d"
_SERIES = ("#0b5cad", "#b3470f", "#1a7f4b", "#7b3fa0", "#8a6d00", "#b0205f")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_VARIABLES = {_INK: "--ink", _SURFACE: "--surface", _GRID: "--grid", _GREY: "--figure-grey"} | {
    color: f"--series-{number}" for number, color in enumerate(_SERIES)
}
_STYLE: Any = {
    "svg.hashsalt": "tract",
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.facecolor": _SURFACE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.unicode_minus": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": _SURFACE,
}
_DPI = 150


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing; `draw` is None where there is nothing to draw, and `note` says why, or what is left out."""

    name: str
    title: str
    draw: Callable[[Axes], None] | None
    note: str = ""
    height: float = 3.6
    """Inches; all are 5.2 wide, so that text stays readable on a phone."""


def panels(statistics: Mapping[str, Any]) -> list[Panel]:
    """Figure 2 (r, RMSE), Figure 3 (against K, against tokens) and the differences (r, RMSE)."""
    other = "" if same_benchmarks(statistics["settings"]["benches"]) else " (other data)"
    return [
        *(_figure2(statistics, metric, other) for metric in ("pearson", "rmse")),
        *(_figure3(statistics, field, other) for field in ("k", "tokens")),
        *(_forest(statistics, metric, other) for metric in ("pearson", "rmse")),
    ]


def inline_svg(panel: Panel) -> str:
    """The drawing as an `<svg>` element whose colours are CSS variables and whose ids no other panel has."""
    text = _save(panel, "svg").decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style).*?</\1>|<style[^>]*/>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{panel.name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{panel.name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)


def write_figures(statistics: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write each figure as SVG and PNG; figures without data are left out.

    Args:
        statistics: content of artifacts/statistics.json.
        folder: is made where it is missing.

    Returns:
        The files, in the order of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for panel in panels(statistics):
        for suffix in ("svg", "png") if panel.draw else ():
            file = folder / f"{panel.name}.{suffix}"
            with tables.atomic_file(file) as draft:
                draft.write_bytes(_save(panel, suffix))
            written.append(file)
    return written


def _save(panel: Panel, suffix: str) -> bytes:
    """The bytes of one drawing."""
    assert panel.draw is not None
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


def _figure2(statistics: Mapping[str, Any], metric: str, other: str) -> Panel:
    entries = [e for e in statistics.get("figure2") or [] if e["bench"] == MEAN and e["metric"] == metric]
    points = sorted(
        (e for e in entries if finite(e["value"]) is not None and e["lambda"] > 0), key=lambda e: e["lambda"]
    )
    name, title = f"figure2_{metric}", f"Figure 2: mean {METRICS[metric]} against lambda"
    if not points:
        return Panel(name=name, title=title, draw=None, note="No lambda was tried in this run.")

    def draw(axes: Axes) -> None:
        sweep = paper.AUTHORS_SWEEP
        theirs = [getattr(run, metric) for run in sweep.values()]
        axes.plot(
            list(sweep), theirs, "--", color=_GREY, marker="x", label=f"authors' runs, one seed{other}", linewidth=1
        )
        _line_with_intervals(axes, [e["lambda"] for e in points], points)
        axes.set_xscale("log")
        ticks = sorted({*sweep, *(e["lambda"] for e in points)})
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set(xlabel="lambda (log scale)", ylabel=f"mean {METRICS[metric]}")

    untried = [value for value in paper.LAMBDA_GRID if value not in {e["lambda"] for e in points}]
    grid = f"Not run, of the paper's grid: {', '.join(f'{value:g}' for value in untried)}. " if untried else ""
    return Panel(name=name, title=title, draw=draw, note=grid + _left_out(entries, len(points)))


def _figure3(statistics: Mapping[str, Any], field: str, other: str) -> Panel:
    entries = statistics.get("figure3") or []
    points = [e for e in entries if finite(e["value"]) is not None and finite(e.get(field)) is not None]
    against = {"k": "CoTs for each example (K)", "tokens": "generated tokens for each example"}[field]
    name, title = f"figure3_{field}", f"Figure 3: mean Pearson r against {against}"
    if not points:
        return Panel(name=name, title=title, draw=None, note="No run with several K.")

    def draw(axes: Axes) -> None:
        lines = list(dict.fromkeys(e["line"] for e in points))
        for number, line in enumerate(lines):
            chosen = sorted((e for e in points if e["line"] == line), key=lambda e: e["k"])
            _line_with_shade(axes, [e[field] for e in chosen], chosen, number, line)
        if field == "k":
            _authors_against_k(axes, lines, other)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=against, ylabel="mean Pearson r")

    return Panel(name=name, title=title, draw=draw, note=_left_out(entries, len(points)))


def _forest(statistics: Mapping[str, Any], metric: str, other: str) -> Panel:
    entries = [e for e in statistics.get("differences") or [] if e["bench"] == MEAN and e["metric"] == metric]
    by_line = {e["line"]: e for e in entries if finite(e["value"]) is not None}
    labels = [label for label in dict.fromkeys([*(line.label for line in LINES), *by_line]) if label in by_line]
    name, title = f"differences_{metric}", f"Line minus line 6, mean {METRICS[metric]}"
    if not labels:
        return Panel(name=name, title=title, draw=None, note="No line was compared with line 6.")

    def draw(axes: Axes) -> None:
        places = range(len(labels), 0, -1)
        chosen = [by_line[label] for label in labels]
        axes.axvline(0, color=_INK, linewidth=0.8)
        for place, entry in zip(places, chosen, strict=True):
            if (ends := _ends(entry)) is not None:
                axes.hlines(place, *ends, color=_SERIES[0], linewidth=2)
        axes.plot([e["value"] for e in chosen], places, "o", color=_SERIES[0], label="ours")
        if metric == "pearson":
            printed = [(gap, place) for place, label in zip(places, labels, strict=True) if (gap := _paper_gap(label))]
            if printed:
                axes.plot(*zip(*printed, strict=True), "x", color=_GREY, label=f"paper, Mistral{other}")
        axes.set_yticks(list(places), labels)
        axes.set(xlabel=f"difference of mean {METRICS[metric]}", ylim=(0.4, len(labels) + 0.6))
        axes.grid(visible=False, axis="y")

    left_out = _left_out(entries, len(labels))
    return Panel(name=name, title=title, draw=draw, note=left_out, height=1.4 + 0.28 * len(labels))


def _line_with_intervals(axes: Axes, x: Sequence[float], points: Sequence[Mapping[str, Any]]) -> None:
    axes.plot(x, [e["value"] for e in points], "-", color=_SERIES[0], marker="o", label="ours, with interval")
    # Limits may lie on one side of the value (a resampled interval is not centred), which error bars refuse.
    for place, entry in zip(x, points, strict=True):
        if (ends := _ends(entry)) is not None:
            axes.vlines(place, *ends, color=_SERIES[0], linewidth=1.2)


def _line_with_shade(
    axes: Axes, x: Sequence[float], points: Sequence[Mapping[str, Any]], number: int, line: str
) -> None:
    color, marker = _SERIES[number % len(_SERIES)], _MARKERS[number % len(_MARKERS)]
    y = [e["value"] for e in points]
    axes.plot(x, y, "-", color=color, marker=marker, label=f"line {line}", markersize=4)
    spread = [finite(e.get("sd")) or 0.0 for e in points]
    low, high = [v - s for v, s in zip(y, spread, strict=True)], [v + s for v, s in zip(y, spread, strict=True)]
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def _ends(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = finite(entry.get("low")), finite(entry.get("high"))
    return None if low is None or high is None else (low, high)


def _paper_gap(label: str) -> float | None:
    """The paper's mean r of a line minus that of row 6 (Table 2, Mistral)."""
    table = paper.comparison_tables("mistral")[0]
    by_label = {line.label: line for line in LINES}
    mine, six = (paper.printed(table, by_label[name], MEAN) if name in by_label else None for name in (label, "6"))
    return None if mine is None or six is None else mine - six


def _authors_against_k(axes: Axes, lines: Sequence[str], other: str) -> None:
    """The authors' runs with one and with five CoTs, of the lines that are drawn."""
    by_label = {line.label: line for line in LINES}
    label: str | None = f"authors' runs{other}"
    for name in lines:
        one = paper.authors("mistral", "pearson", by_label[name], MEAN) if name in paper.AUTHORS_K5 else None
        if one is not None:
            five = paper.AUTHORS_K5[name].pearson
            axes.plot([1, 5], [one, five], "--", color=_GREY, marker="x", label=label, linewidth=1)
            label = None


def _left_out(entries: Sequence[Mapping[str, Any]], drawn: int) -> str:
    reasons = dict.fromkeys(e.get("reason") or "no value" for e in entries if finite(e["value"]) is None)
    absent = len(entries) - drawn
    return f"{absent} point(s) not drawn: {'; '.join(reasons) or 'no place on this axis'}." if absent else ""
