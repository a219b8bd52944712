"""The judge's scores beside gold: example by example, how often each score is given, and whether it is meant.

Points are those of `scoring.scatter`: gold and the expected score of each example, over all seeds and CoTs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from tract_core.report import tables
from tract_core.report.cells import Table, finite
from tract_core.report.figures import GREY, INK, SERIES, Panel

MOST_DRAWN = 2000
"""Points of a figure; the boxes are of all examples."""
_MOST_LEVELS = 12
_GOLDEN = 0.6180339887
"""Its multiples spread points evenly over the width of a strip, the same way each time."""

Points = Sequence[Mapping[str, Any]]


class Bin(NamedTuple):
    """Examples whose expected score lies in one part of the scale."""

    expected_score: float
    gold: float
    n: int


def panels(points: Points, values_Y: Sequence[float]) -> list[Panel]:
    """Three figures for each benchmark."""
    found = []
    for bench, scored in _scored(points).items():
        missing = sum(point["bench"] == bench for point in points) - len(scored)
        note = f"Without {missing} example(s) that have no score." if missing else ""
        found += [draw(bench, scored, values_Y, note) for draw in (_predicted, _spread, _reliability)]
    return found


def in_numbers(points: Points, values_Y: Sequence[float]) -> list[Table]:
    """The last two figures of each benchmark as tables, for readers who do not see them."""
    found = []
    for bench, scored in _scored(points).items():
        how_often = counts(scored, values_Y)
        means = [one._asdict() for one in bins(scored, values_Y)]
        found += [
            tables.figure_numbers(
                how_often,
                ("score", "gold", "judge"),
                id=f"scores-{bench}",
                caption=f"{bench}: how often each score is given",
            ),
            tables.figure_numbers(
                means,
                Bin._fields,
                id=f"reliability-{bench}",
                caption=f"{bench}: mean gold where the judge says about the same",
            ),
        ]
    return found


def levels(values_Y: Sequence[float]) -> list[float]:
    """The scores, or where there are many ten evenly spaced places on the scale."""
    many = len(values_Y) > _MOST_LEVELS
    return [float(v) for v in (np.linspace(min(values_Y), max(values_Y), 10) if many else values_Y)]


def counts(points: Points, values_Y: Sequence[float]) -> list[dict[str, Any]]:
    """For each level: how many examples have it as gold, and how many get it from the judge (the nearest)."""
    places = levels(values_Y)
    gold, judge = (Counter(_nearest(point[name], places) for point in points) for name in ("gold", "rail"))
    return [{"score": f"{place:g}", "gold": gold[place], "judge": judge[place]} for place in places]


def bins(points: Points, values_Y: Sequence[float]) -> list[Bin]:
    """Equal parts of the scale, half a score wide; those without an example are left out."""
    low, high = float(min(values_Y)), float(max(values_Y))
    number = min(10, max(5, 2 * (len(values_Y) - 1)))
    groups: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        part = int((point["rail"] - low) / (high - low) * number)
        groups.setdefault(min(max(part, 0), number - 1), []).append((point["rail"], point["gold"]))
    return [
        Bin(fmean(p for p, _ in group), fmean(g for _, g in group), len(group)) for _, group in sorted(groups.items())
    ]


def _scored(points: Points) -> dict[str, Points]:
    """Benchmark -> its examples that have a score; a benchmark without any is left out."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        if finite(point["rail"]) is not None:
            found.setdefault(point["bench"], []).append(point)
    return dict(found)


def _predicted(bench: str, points: Points, values_Y: Sequence[float], note: str) -> Panel:
    places = levels(values_Y)
    step = min(np.diff(places))
    drawn = [points[n * len(points) // MOST_DRAWN] for n in range(MOST_DRAWN)] if len(points) > MOST_DRAWN else points
    if len(drawn) < len(points):
        note = f"{len(drawn)} of {len(points)} examples are drawn as points; the boxes are of all. {note}"

    def draw(axes: Axes) -> None:
        axes.plot([places[0], places[-1]], [places[0], places[-1]], "--", color=GREY, linewidth=1, label="equal")
        offsets = [((n * _GOLDEN) % 1 - 0.5) * 0.5 * step for n in range(len(drawn))]
        x = [point["gold"] + offset for point, offset in zip(drawn, offsets, strict=True)]
        y = [point["rail"] for point in drawn]
        axes.plot(x, y, "o", color=SERIES[0], markersize=4, alpha=0.6, markeredgewidth=0, zorder=3, label="one example")
        _boxes(axes, points, places, step)
        axes.set(xlabel="gold", ylabel="expected score", xticks=places)

    title = f"{bench}: expected score against gold; boxes hold the middle half of each gold score"
    return Panel(name=f"predicted_{bench}", title=title, draw=draw, note=note)


def _boxes(axes: Axes, points: Points, places: Sequence[float], step: float) -> None:
    groups = {place: [p["rail"] for p in points if _nearest(p["gold"], places) == place] for place in places}
    filled = {place: group for place, group in groups.items() if group}
    line: Any = {"color": INK, "linewidth": 1}
    axes.boxplot(
        list(filled.values()),
        positions=list(filled),
        widths=0.6 * step,
        showfliers=False,
        manage_ticks=False,
        zorder=2,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": SERIES[1], "linewidth": 2},
    )


def _spread(bench: str, points: Points, values_Y: Sequence[float], note: str) -> Panel:
    places, found = levels(values_Y), counts(points, values_Y)
    width = 0.38 * min(np.diff(places))

    def draw(axes: Axes) -> None:
        for name, color, side in (("gold", GREY, -0.5), ("judge", SERIES[0], 0.5)):
            x = [place + side * width for place in places]
            axes.bar(x, [entry[name] for entry in found], width, color=color, label=name)
        axes.set_axisbelow(True)
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="score (the judge's expected score, at the nearest one)", ylabel="examples", xticks=places)

    return Panel(name=f"scores_{bench}", title=f"{bench}: how often each score is given", draw=draw, note=note)


def _reliability(bench: str, points: Points, values_Y: Sequence[float], note: str) -> Panel:
    places, found = levels(values_Y), bins(points, values_Y)

    def draw(axes: Axes) -> None:
        axes.plot([places[0], places[-1]], [places[0], places[-1]], "--", color=GREY, linewidth=1, label="equal")
        x, y = [one.expected_score for one in found], [one.gold for one in found]
        axes.plot(x, y, "-o", color=SERIES[0], markersize=5, label="mean, with the number of examples")
        for one in found:
            axes.annotate(str(one.n), (one.expected_score, one.gold), (0, 6), textcoords="offset points", ha="center")
        axes.set(xlabel="mean expected score", ylabel="mean gold", xticks=places)
        axes.margins(y=0.12)

    title = f"{bench}: mean gold where the judge says about the same"
    return Panel(name=f"reliability_{bench}", title=title, draw=draw, note=note)


def _nearest(value: float, places: Sequence[float]) -> float:
    return min(places, key=lambda place: abs(place - value))
