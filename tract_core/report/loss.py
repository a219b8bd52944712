"""The logs of the trainings behind the judge: which they are, and one figure for each."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from tract_core.base import places
from tract_core.base.rows import COOL
from tract_core.report.cells import finite
from tract_core.report.figures import INK, SERIES, Panel

MOST_POINTS = 100
"""Of a line; with more steps each point is the mean of some."""
_PARTS = {"loss": INK, "cross_entropy": SERIES[0], "squared_error": SERIES[1]}

Logs = Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]]
"""Row -> training seed -> what was recorded at each step."""


def behind(row: str, rows: Mapping[str, Any]) -> list[str]:
    """The row and those that it builds on, the first training first.

    Args:
        row: of the judge.
        rows: section `rows` of params.yaml; a row that is not in it was not trained here.
    """
    row = row.removeprefix(COOL)
    if row not in rows:
        return []
    sources = [source for name in ("cots", "start") for source in rows[row][name].split("+")]
    return list(dict.fromkeys([*(found for source in sources for found in behind(source, rows)), row]))


def read(rows: Sequence[str], seeds: Sequence[int]) -> Logs:
    """The logs that are there."""
    files = {row: {seed: places.loss_file(row, seed) for seed in seeds} for row in rows}
    return {row: {seed: _read(file) for seed, file in found.items() if file.exists()} for row, found in files.items()}


def panels(logs: Logs) -> list[Panel]:
    """The loss of each training and its parts, a line for each training seed."""
    return [
        _panel(row, {seed: log for seed, log in by_seed.items() if log})
        for row, by_seed in logs.items()
        if any(by_seed.values())
    ]


def _read(file: Any) -> list[dict[str, float]]:
    with open(file, encoding="utf-8", newline="") as lines:
        return [{name: float(value) for name, value in line.items() if value} for line in csv.DictReader(lines)]


def _panel(row: str, by_seed: Mapping[int, Sequence[Mapping[str, float]]]) -> Panel:
    width = max(-(-len(log) // MOST_POINTS) for log in by_seed.values())

    def draw(axes: Axes) -> None:
        for part, color in _PARTS.items():
            label: str | None = part.replace("_", " ")
            for log in by_seed.values():
                steps, values = _means(log, part, width)
                if steps:
                    axes.plot(steps, values, "-", color=color, linewidth=1.4, label=label)
                    label = None
        axes.set(xlabel="step", ylabel="training loss")
        axes.set_ylim(bottom=0)

    note = f"Each point is the mean of {width} steps." if width > 1 else ""
    return Panel(name=f"loss_{row}", title=f"Training of row {row}", draw=draw, note=note)


def _means(log: Sequence[Mapping[str, float]], part: str, width: int) -> tuple[list[float], list[float]]:
    """Steps and values of one line; steps without a finite value of this part do not count."""
    points = [(line["step"], line[part]) for line in log if finite(line.get(part)) is not None]
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    means = [tuple(map(statistics.fmean, zip(*group, strict=True))) for group in groups]
    return [step for step, _ in means], [value for _, value in means]
