"""docs/growth/*.svg from bench/results/growth_*.json and rows.json, in the style of the page's figures."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from tract_core.base import tables
from tract_core.report import figures
from tract_core.report.figures import Panel
from tract_core.train.memory import GIB

FOLDER = Path(__file__).parent.parent / "docs" / "growth"
_AXES = {
    "prompt": "prompt, tokens",
    "completion": "completion, tokens",
    "vocabulary": "vocabulary, tokens",
    "samples": "CoTs of one prompt, each with its score (K)",
}
_MODELS = {"samples": "the model of make plan"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One variant at one point."""

    cpu: list[float]
    """Processor seconds of each repeat."""
    wall: list[float]
    model: float
    """What the cost model expects, in its own unit; `fitted` makes seconds of it."""
    added: float | None = None
    """Bytes of memory that a run adds; None where it is not measured."""

    @property
    def median(self) -> float:
        return statistics.median(self.cpu)

    @property
    def spread(self) -> str:
        return f"{self.median:.2f} ({min(self.cpu):.2f} to {max(self.cpu):.2f})"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """All variants at one point."""

    x: int
    lines: dict[str, Line]


def read(file: Path) -> list[Entry]:
    """The points of one curve, as bench/growth.py wrote them."""
    data = json.loads(file.read_text())["data"]
    return [Entry(x=one["x"], lines={name: Line(**line) for name, line in one["lines"].items()}) for one in data]


def fitted(entries: Sequence[Entry]) -> float:
    """The one factor that carries the model of all points and variants to the measured medians (geometric mean)."""
    logs = [math.log(line.median / line.model) for entry in entries for line in entry.lines.values()]
    return math.exp(statistics.mean(logs))


def write(results: Path, folder: Path) -> list[Path]:
    """Draw every curve whose measurements are there.

    Args:
        results: folder of the json files.
        folder: is made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for panel in panels(results):
        file = folder / f"{panel.name}.svg"
        with tables.atomic_file(file) as draft:
            draft.write_bytes(figures.save(panel, "svg"))
        written.append(file)
    return written


def panels(results: Path) -> list[Panel]:
    found = []
    for name in _AXES:
        file = results / f"growth_{name}.json"
        if file.exists():
            found += curve(name, read(file))
    if (results / "rows.json").exists():
        seconds = rows_seconds(results / "rows.json")
        found.append(Panel(name="rows", title="stages by rows", draw=partial(draw_rows, seconds=seconds)))
    return found


def curve(name: str, entries: Sequence[Entry]) -> list[Panel]:
    """Seconds, and memory where it was measured."""
    time = Panel(name=name, title=f"time by {name}", draw=partial(draw_time, name=name, entries=entries))
    if any(line.added is None for entry in entries for line in entry.lines.values()):
        return [time]
    memory = partial(draw_memory, name=name, entries=entries)
    return [time, Panel(name=f"{name}_memory", title=f"memory by {name}", draw=memory)]


def draw_time(axes: Axes, *, name: str, entries: Sequence[Entry]) -> None:
    factor = fitted(entries)
    _plot(axes, entries, lambda line: line.median)
    for number, variant in enumerate(entries[0].lines):
        expected = [factor * entry.lines[variant].model for entry in entries]
        axes.plot([entry.x for entry in entries], expected, "--", color=figures.SERIES[number], linewidth=1)
    _say(axes, f"dashed: {_MODELS.get(name, 'FLOP model')}, fitted by one constant")
    axes.set(xlabel=_AXES[name], ylabel="processor time, s")


def draw_memory(axes: Axes, *, name: str, entries: Sequence[Entry]) -> None:
    _plot(axes, entries, lambda line: (line.added or 0.0) / GIB)
    axes.set(xlabel=_AXES[name], ylabel="memory that a step adds, GiB")


def _plot(axes: Axes, entries: Sequence[Entry], value: Callable[[Line], float]) -> None:
    """A line for each variant, with its name at its end, on axes that begin at zero."""
    x = [entry.x for entry in entries]
    for number, variant in enumerate(entries[0].lines):
        _named(axes, x, [value(entry.lines[variant]) for entry in entries], number, variant)
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,.0f}"))


def _named(axes: Axes, x: Sequence[float], y: Sequence[float], number: int, name: str) -> None:
    color = figures.SERIES[number]
    axes.plot(x, y, "-", color=color, marker=figures.MARKERS[number], markersize=4)
    text = name.replace(", ", ",\n").replace(" sharing", "\nsharing")
    axes.annotate(text, (x[-1], y[-1]), xytext=(7, 0), textcoords="offset points", va="center", color=color)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.02, 0.98, text, transform=axes.transAxes, va="top", color=figures.GREY)


def rows_seconds(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Of each stage: rows and median seconds by the clock, as bench/rows.py wrote them."""
    found: dict[str, list[tuple[int, float]]] = {}
    data: list[Any] = json.loads(file.read_text())["data"]
    for (size, stage), seconds in data:
        found.setdefault(stage, []).append((size, statistics.median(seconds)))
    return found


def draw_rows(axes: Axes, *, seconds: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    for number, (stage, points) in enumerate(seconds.items()):
        x, y = zip(*points, strict=True)
        _named(axes, x, y, number, stage)
        axes.plot(x, [y[-1] * n / x[-1] for n in x], "--", color=figures.SERIES[number], linewidth=1)
    lowest = min(y for points in seconds.values() for _, y in points)
    _say(axes, "dashed: in proportion to the rows")
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="clock time, s", ylim=(lowest / 2, None))
    axes.set_xticks(list(x), [f"{n:,}" for n in x])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
