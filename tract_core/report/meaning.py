"""What a score means: mean gold where the judge says about the same, before and after calibration, and intervals.

Everything is made from artifacts/calibration.json: benchmark -> what stage `calibrate` says of the judge's row there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from tract_core.report import tables
from tract_core.report.cells import Cell, Group, Head, Table, missing, show
from tract_core.report.figures import GREY, SERIES, Panel

Meaning = Mapping[str, Mapping[str, Any]]
INTRO = (
    "Which gold score stands behind a score of the judge, and how far gold lies from it. Each number is of tasks that "
    "the calibration was not fitted to. The scores on this page are not calibrated: the command tract calibrate does "
    "that for an exported judge, from rows that people rated (docs/judge.md)."
)
_SIDES = ("as it is", "calibrated")


def caution(meaning: Meaning) -> str:
    """Which benchmarks are left out, and which have few tasks, in sentences; empty where there are none."""
    refused = [f"{bench}: not measured, since {one['refused']}." for bench, one in meaning.items() if one["refused"]]
    few = [
        f"{bench} has {one['tasks']} tasks, few for a calibration: take its numbers as rough."
        for bench, one in _measured(meaning).items()
        if one["few_tasks"]
    ]
    return " ".join([*refused, *few])


def panels(meaning: Meaning, values_Y: Sequence[float]) -> list[Panel]:
    """One for each benchmark."""
    return [_panel(bench, one, values_Y) for bench, one in _measured(meaning).items()]


def in_tables(meaning: Meaning) -> list[Table]:
    """Errors before and after, and the intervals."""
    measured = _measured(meaning)
    errors = Table(
        id="calibration",
        caption="Errors of the scores as they are, and calibrated",
        first="benchmark",
        groups=(Group("RMSE", _SIDES), Group("calibration error", _SIDES), Group("", ("calibration", "tasks"))),
        rows=tuple((Head(bench), _errors(one)) for bench, one in measured.items()),
        legend="Calibration error: the mean distance between score and mean gold where scores are about the same, in "
        "units of the scale; with few examples some of it is chance.",
    )
    intervals = Table(
        id="intervals",
        caption="Intervals around a calibrated score: how many hold gold, and how wide they are",
        first="level",
        groups=tuple(Group(bench, ("hold gold", "mean width")) for bench in measured),
        rows=_intervals(list(measured.values())),
        legend="An interval of level 90 % should hold the gold score of nine in ten new rows; its limits are scores of "
        "the scale. One row of each task is counted; a level that needs more tasks is left out.",
    )
    return [errors, intervals]


def in_numbers(meaning: Meaning) -> list[Table]:
    """The figures as tables, for readers who do not see them."""
    return [
        tables.figure_numbers(
            [
                {"which": side, **one}
                for side, name in zip(_SIDES, ("bins", "bins_after"), strict=True)
                for one in found[name]
            ],
            ("which", "score", "gold", "n"),
            id=f"calibration-{bench}",
            caption=f"{bench}: mean gold where scores are about the same",
        )
        for bench, found in _measured(meaning).items()
    ]


def _measured(meaning: Meaning) -> dict[str, Mapping[str, Any]]:
    return {bench: one for bench, one in meaning.items() if not one["refused"]}


def _panel(bench: str, one: Mapping[str, Any], values_Y: Sequence[float]) -> Panel:
    ends = [min(values_Y), max(values_Y)]

    def draw(axes: Axes) -> None:
        axes.plot(ends, ends, "--", color=GREY, linewidth=1, label="equal")
        for side, name, color, marker in zip(_SIDES, ("bins", "bins_after"), SERIES, "os", strict=False):
            x, y = [part["score"] for part in one[name]], [part["gold"] for part in one[name]]
            axes.plot(x, y, f"-{marker}", color=color, markersize=5, label=side)
        axes.set(xlabel="mean score", ylabel="mean gold")

    title = f"{bench}: mean gold where scores are about the same"
    return Panel(name=f"calibration_{bench}", title=title, draw=draw, note=_without(one))


def _without(one: Mapping[str, Any]) -> str:
    return f"Without {one['without_score']} example(s) that have no score." if one["without_score"] else ""


def _errors(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    shown = [Cell(text=show(one[when][name], 2)) for name in ("rmse", "ece") for when in ("before", "after")]
    return (*shown, Cell(text=_in_words(one["map"])), Cell(text=str(one["tasks"])))


def _in_words(found: Mapping[str, Any]) -> str:
    """The map, so that a reader can apply it by hand where it is a formula."""
    if found["kind"] == "affine":
        sign = "-" if found["intercept"] < 0 else "+"
        return f"{show(found['slope'], 2)} x score {sign} {show(abs(found['intercept']), 2)}"
    if found["kind"] == "temperature":
        return f"temperature {show(found['temperature'], 2)}"
    return {"isotonic": "a rising curve", "identity": "none is better"}[found["kind"]]


def _intervals(measured: Sequence[Mapping[str, Any]]) -> tuple[tuple[Head, tuple[Cell, ...]], ...]:
    return tuple(
        (Head(f"{100 * same_level[0]['level']:g} %"), tuple(cell for one in same_level for cell in _interval(one)))
        for same_level in zip(*(one["intervals"] for one in measured), strict=True)
        if any(one["share"] is not None for one in same_level)
    )


def _interval(one: Mapping[str, Any]) -> tuple[Cell, Cell]:
    if one["share"] is None:
        reason = "too few tasks for this level"
        return missing(reason), missing(reason)
    return Cell(text=f"{100 * one['share']:.0f} %"), Cell(text=show(one["width"], 1))
