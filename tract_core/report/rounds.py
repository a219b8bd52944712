"""Reinforcement learning round by round, from `rounds` of artifacts/statistics.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from tract_core.report.cells import Cell, Group, Head, Table, finite, missing, show
from tract_core.report.figures import MARKERS, SERIES, Panel

INTRO = (
    "Each judge starts from the one above it. Reward: the mean of -(expected score - gold) squared over the CoTs that "
    "it drew for training examples, for the next judge to learn from; spread: how much CoTs of one example differ in "
    "it. "
    "Without spread there is nothing to learn from (docs/rows.md)."
)
Course = Sequence[Mapping[str, Any]]
_NOT_SCORED = "this judge is not in matrix.scored"


def table(course: Course) -> Table:
    """One row for each judge."""
    benches = list(dict.fromkeys(bench for one in course for bench in one["scores"]))
    return Table(
        id="rounds",
        caption="From round to round",
        first="judge",
        groups=(
            Group("draws for training", ("reward", "spread")),
            Group("CoTs on the benchmarks", ("tokens", "bad")),
            *(Group(bench, ("r", "RMSE")) for bench in benches),
        ),
        rows=tuple((Head(one["judge"]), _cells(one, benches)) for one in course),
    )


def panels(course: Course) -> list[Panel]:
    """r on each benchmark and the reward against the judges of the chain; nothing where no two have numbers."""
    benches = list(dict.fromkeys(bench for one in course for bench in one["scores"]))
    lines = {bench: [finite((one["scores"].get(bench) or {}).get("pearson")) for one in course] for bench in benches}
    found = [
        _panel("rounds_pearson", "Pearson r after each round", "Pearson r", lines, course),
        _panel("rounds_reward", "Mean reward of the draws", "reward", {"": [one["reward"] for one in course]}, course),
    ]
    return [panel for panel in found if panel is not None]


def _panel(
    name: str, title: str, axis: str, lines: Mapping[str, Sequence[float | None]], course: Course
) -> Panel | None:
    kept = {label: values for label, values in lines.items() if sum(value is not None for value in values) > 1}
    if not kept:
        return None

    def draw(axes: Axes) -> None:
        for (label, values), color, marker in zip(kept.items(), SERIES, MARKERS, strict=False):
            points = [(place, value) for place, value in enumerate(values) if value is not None]
            axes.plot(*zip(*points, strict=True), f"-{marker}", color=color, markersize=5, label=label or None)
        axes.set_xticks(range(len(course)), [one["judge"] for one in course])
        axes.set(ylabel=axis)

    return Panel(name=name, title=title, draw=draw)


def _cells(one: Mapping[str, Any], benches: Sequence[str]) -> tuple[Cell, ...]:
    drew = [one["reward"], one["spread"]]
    cots = [one["tokens"], one["bad"]]
    shown = [
        *(missing("no round drew from this judge") if value is None else Cell(text=show(value)) for value in drew),
        missing(_NOT_SCORED) if cots[0] is None else Cell(text=show(cots[0], 0)),
        missing(_NOT_SCORED) if cots[1] is None else Cell(text=f"{cots[1]:.1%}"),
    ]
    for bench in benches:
        found = one["scores"].get(bench) or {}
        values = [found.get("pearson"), found.get("rmse")]
        shown += [missing(_NOT_SCORED) if value is None else Cell(text=show(value)) for value in values]
    return tuple(shown)
