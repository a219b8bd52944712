"""The logs of the trainings behind the judge: which they are, and one figure for each."""

import csv
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from tract_core.base import places
from tract_core.base.rows import COOL
from tract_core.report.cells import finite
from tract_core.report.figures import INK, SERIES, Panel
from tract_core.score.paper_lines import MEAN

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


def ending(logs: Logs, statistics: Mapping[str, Any]) -> str:
    """What the judge's squared error at the end of its training says beside that on the benchmarks, in sentences.

    Empty where there is no such number, or the judge is not read by its expected score.
    """
    judge = statistics["judge"]
    if judge is None or judge["predictor"] != "rail":
        return ""
    log_of_seed = logs.get(judge["row"].removeprefix(COOL), {}).values()
    ends = [line for log in log_of_seed for line in log[-max(1, len(log) // 10) :]]
    learnt = [value for line in ends if (value := finite(line.get("squared_error"))) is not None]
    unseen = {
        cell["bench"]: cell["value"] ** 2
        for cell in statistics["cells"]
        if (cell["row"], cell["predictor"], cell["metric"]) == (judge["row"], "rail", "rmse")
        if cell["bench"] != MEAN and finite(cell["value"]) is not None
    }
    if not learnt or not unseen:
        return ""
    named = ", ".join(f"{value:.2f} on {bench}" for bench, value in unseen.items())
    found = f"Squared error in the last tenth of the judge's training: {fmean(learnt):.2f}; afterwards {named}."
    return f"{found} {_UNFINISHED}" if fmean(learnt) >= fmean(unseen.values()) else found


_UNFINISHED = (
    "It scores what it learns from no better than what it never saw, so its examples could teach it more: raise "
    "train.epochs, or let stage 2 go on (row longer, docs/rows.md)."
)


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
    means = [tuple(map(fmean, zip(*group, strict=True))) for group in groups]
    return [step for step, _ in means], [value for _, value in means]
