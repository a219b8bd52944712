"""Figures 2 and 3 of the paper, and a forest plot of the differences; each only where it has points of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from tract_core.report import paper
from tract_core.report.cells import METRICS, differences_that_ran, finite
from tract_core.report.comparison import same_benchmarks
from tract_core.report.figures import GREY, INK, MARKERS, SERIES, Panel
from tract_core.score.paper_lines import LINES, MEAN


def panels(statistics: Mapping[str, Any]) -> list[Panel]:
    """Figure 2 (r, RMSE), Figure 3 (against K, against tokens) and the differences (r, RMSE)."""
    other = "" if same_benchmarks(statistics["settings"]["benches"]) else " (other data)"
    found = [
        *(_figure2(statistics, metric, other) for metric in ("pearson", "rmse")),
        *(_figure3(statistics, field, other) for field in ("k", "tokens")),
        *(_forest(statistics, metric, other) for metric in ("pearson", "rmse")),
    ]
    return [panel for panel in found if panel is not None]


def _figure2(statistics: Mapping[str, Any], metric: str, other: str) -> Panel | None:
    entries = [e for e in statistics.get("figure2") or [] if e["bench"] == MEAN and e["metric"] == metric]
    points = sorted(
        (e for e in entries if finite(e["value"]) is not None and e["lambda"] > 0), key=lambda e: e["lambda"]
    )
    # One lambda alone is the judge itself, not a figure.
    if len(points) < 2:
        return None

    def draw(axes: Axes) -> None:
        sweep = paper.AUTHORS_SWEEP
        theirs = [getattr(run, metric) for run in sweep.values()]
        axes.plot(
            list(sweep), theirs, "--", color=GREY, marker="x", label=f"authors' runs, one seed{other}", linewidth=1
        )
        _line_with_intervals(axes, [e["lambda"] for e in points], points)
        axes.set_xscale("log")
        ticks = sorted({*sweep, *(e["lambda"] for e in points)})
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set(xlabel="lambda (log scale)", ylabel=f"mean {METRICS[metric]}")

    untried = [value for value in paper.LAMBDA_GRID if value not in {e["lambda"] for e in points}]
    grid = f"The paper's grid also has {', '.join(f'{value:g}' for value in untried)}. " if untried else ""
    title = f"Figure 2: mean {METRICS[metric]} against lambda"
    return Panel(name=f"figure2_{metric}", title=title, draw=draw, note=grid + _left_out(entries, len(points)))


def _figure3(statistics: Mapping[str, Any], field: str, other: str) -> Panel | None:
    entries = statistics.get("figure3") or []
    points = [e for e in entries if finite(e["value"]) is not None and finite(e.get(field)) is not None]
    against = {"k": "CoTs for each example (K)", "tokens": "generated tokens for each example"}[field]
    if not points:
        return None

    def draw(axes: Axes) -> None:
        lines = list(dict.fromkeys(e["line"] for e in points))
        for number, line in enumerate(lines):
            chosen = sorted((e for e in points if e["line"] == line), key=lambda e: e["k"])
            _line_with_shade(axes, [e[field] for e in chosen], chosen, number, line)
        if field == "k":
            _authors_against_k(axes, lines, other)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=against, ylabel="mean Pearson r")

    title = f"Figure 3: mean Pearson r against {against}"
    return Panel(name=f"figure3_{field}", title=title, draw=draw, note=_left_out(entries, len(points)))


def _forest(statistics: Mapping[str, Any], metric: str, other: str) -> Panel | None:
    compared = differences_that_ran(statistics)
    entries = [e for e in compared if e["bench"] == MEAN and e["metric"] == metric]
    by_line = {e["line"]: e for e in entries if finite(e["value"]) is not None}
    labels = [label for label in dict.fromkeys([*(line.label for line in LINES), *by_line]) if label in by_line]
    if not labels:
        return None

    def draw(axes: Axes) -> None:
        places = range(len(labels), 0, -1)
        chosen = [by_line[label] for label in labels]
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, entry in zip(places, chosen, strict=True):
            if (ends := _ends(entry)) is not None:
                axes.hlines(place, *ends, color=SERIES[0], linewidth=2)
        axes.plot([e["value"] for e in chosen], places, "o", color=SERIES[0], label="ours")
        if metric == "pearson":
            printed = [(gap, place) for place, label in zip(places, labels, strict=True) if (gap := _paper_gap(label))]
            if printed:
                axes.plot(*zip(*printed, strict=True), "x", color=GREY, label=f"paper, Mistral{other}")
        axes.set_yticks(list(places), labels)
        axes.set(xlabel=f"difference of mean {METRICS[metric]}", ylim=(0.4, len(labels) + 0.6))
        axes.grid(visible=False, axis="y")

    return Panel(
        name=f"differences_{metric}",
        title=f"Line minus line 6, mean {METRICS[metric]}",
        draw=draw,
        note=_left_out(entries, len(labels)),
        height=1.4 + 0.28 * len(labels),
    )


def _line_with_intervals(axes: Axes, x: Sequence[float], points: Sequence[Mapping[str, Any]]) -> None:
    axes.plot(x, [e["value"] for e in points], "-", color=SERIES[0], marker="o", label="ours, with interval")
    # Limits may lie on one side of the value (a resampled interval is not centred), which error bars refuse.
    for place, entry in zip(x, points, strict=True):
        if (ends := _ends(entry)) is not None:
            axes.vlines(place, *ends, color=SERIES[0], linewidth=1.2)


def _line_with_shade(
    axes: Axes, x: Sequence[float], points: Sequence[Mapping[str, Any]], number: int, line: str
) -> None:
    color, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
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
            axes.plot([1, 5], [one, five], "--", color=GREY, marker="x", label=label, linewidth=1)
            label = None


def _left_out(entries: Sequence[Mapping[str, Any]], drawn: int) -> str:
    reasons = dict.fromkeys(e.get("reason") or "no value" for e in entries if finite(e["value"]) is None)
    absent = len(entries) - drawn
    return f"{absent} point(s) not drawn: {'; '.join(reasons) or 'no place on this axis'}." if absent else ""
