"""All tables of the page but the comparison with the paper, from statistics.json, settings and a Markdown file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tract_core.report import paper
from tract_core.report.cells import (
    EMPTY,
    METRICS,
    PREDICTORS,
    Cell,
    Group,
    Head,
    Key,
    Numbers,
    Table,
    differences_that_ran,
    finite,
    flat,
    missing,
    of_entry,
    ours,
    show,
)
from tract_core.report.comparison import describe
from tract_core.score.paper_lines import LINES, MEAN, Line

_OTHER_METRICS = ("rmse", "mae", "bias", "exact", "qwk", "predicted_sd")
_RATES = ("no_delimiter", "truncated", "empty", "stray_score", "stray_bracket", "loop")
_SOURCES = {"annotator": "annotator (p_a)", "a1": "A.1 (p_s)", "tract": "6 (p_tract)"}


def other_metrics(numbers: Numbers) -> list[Table]:
    """RMSE and its kin for each line, with how many rows had a prediction: each benchmark, before several the mean."""
    mean = [MEAN] if len(numbers.benches) > 1 else []
    return [_other_metrics(numbers, bench) for bench in [*mean, *numbers.benches]]


def cross(numbers: Numbers) -> Table:
    """Every model under every predictor: mean r and RMSE. The paper reads each with one predictor."""
    order = [*dict.fromkeys(line.row for line in LINES), *sorted(numbers.rows)]
    rows = [row for row in dict.fromkeys(order) if row in numbers.rows]
    return Table(
        id="cross",
        caption="Every model under every predictor, mean over our benchmarks",
        first="model",
        groups=tuple(Group(METRICS[metric], PREDICTORS) for metric in ("pearson", "rmse")),
        rows=tuple((Head(row, _labels(row)), tuple(_cross_cells(numbers, row))) for row in rows),
        legend="A line of the paper's tables is a model and a predictor; here are all pairs.",
    )


def table3(statistics: Mapping[str, Any]) -> Table:
    """RMSE on training examples after training CoTs and own CoTs, and the gap (own minus training)."""
    found = statistics.get("table3") or {"cells": [], "gaps": []}
    cells = {(entry["row"], entry["cots"]): entry for entry in found["cells"]}
    gaps = {entry["row"]: entry for entry in found["gaps"]}
    rows = []
    for row, label in (("a1", "A.1 (p_s)"), ("tract", "6 (p_tract)")):
        if not any(finite(entry.get("value")) is not None for key, entry in cells.items() if key[0] == row):
            continue
        own = [_with_n(cells.get((row, cots))) for cots in ("training", "own")]
        printed = [paper.TABLE_3_RMSE[(row, cots)] for cots in ("training", "own")]
        gap = [of_entry(gaps.get(row), "not measured in this run"), _p_value(gaps.get(row), "p")]
        pairs = [cell for mine, theirs in zip(own, printed, strict=True) for cell in (mine, _grey(theirs, 2))]
        rows.append((Head(label), (*pairs, *gap, _grey(printed[1] - printed[0], 2))))
    sides = ("ours", "paper")
    return Table(
        id="table-3",
        caption="Table 3: RMSE over training examples, behind the CoTs of training and behind own CoTs",
        first="model",
        groups=(Group("training CoTs", sides), Group("own CoTs", sides), Group("gap", ("ours", "p", "paper"))),
        rows=tuple(rows),
        legend="Gap: own minus training; near 0 means that the model judges behind its own CoTs as well as behind "
        "those it learned from. Grey: the paper's numbers, from its own training data.",
    )


def differences(statistics: Mapping[str, Any]) -> list[Table]:
    """Each line minus line 6: one table for the mean, then one for each benchmark. Without lines that did not run."""
    entries = differences_that_ran(statistics)
    benches = dict.fromkeys([MEAN, *statistics["settings"]["benches"], *(entry["bench"] for entry in entries)])
    return [_difference_table(entries, bench) for bench in benches if any(e["bench"] == bench for e in entries)]


def figure_numbers(entries: Sequence[Mapping[str, Any]], fields: Sequence[str], *, id: str, caption: str) -> Table:
    """The points of a figure as a table, for readers who do not see it. Fields that an entry lacks are empty."""
    rows = [
        (Head(_plain(entry.get(fields[0]))), tuple(_field_cell(entry, name) for name in fields[1:]))
        for entry in entries
    ]
    return Table(
        id=id,
        caption=caption,
        first=fields[0],
        groups=flat(*(name.replace("_", " ") for name in fields[1:])),
        rows=tuple(rows),
    )


def ceiling(statistics: Mapping[str, Any]) -> Table:
    """What agreement can be expected of a judge: that of one annotator, and that of a judge without noise.

    Benchmarks with one gold score for each example have none and are left out.
    """
    entries = statistics.get("ceiling") or []
    with_several = {entry["bench"] for entry in entries if finite(entry.get("value")) is not None}
    rows = [
        (
            Head(entry["bench"], f"{METRICS.get(entry['metric'], entry['metric'])} of {entry['of']}"),
            (of_entry(entry), Cell(text=_plain(entry.get("num_annotators")))),
        )
        for entry in entries
        if entry["bench"] in with_several
    ]
    return Table(
        id="ceiling-table",
        caption="Ceiling: agreement of one annotator with the mean of the others, and of a judge without noise with "
        "the mean of all",
        first="benchmark",
        groups=flat("agreement", "gold scores per row"),
        rows=tuple(rows),
        legend="Where one model gave all scores of a row, as GPT-4 did in the data of Prometheus, this is its "
        "agreement with itself, not that of people.",
    )


def perplexity(statistics: Mapping[str, Any]) -> Table:
    """Appendix B.4: how natural each source's CoTs are to the seed model."""
    rows = [
        (
            Head(_SOURCES.get(entry["source"], entry["source"]), _seed(entry.get("seed"))),
            (
                _value(entry, "token_weighted", 2),
                _value(entry, "per_sample", 2),
                _grey(paper.PERPLEXITY.get(entry["source"]), 2),
                Cell(text=_plain(entry.get("n"))),
                Cell(text=_plain(entry.get("num_tokens"))),
            ),
        )
        for entry in statistics.get("perplexity") or []
    ]
    return Table(
        id="perplexity",
        caption="Perplexity of the CoTs under the seed model (appendix B.4)",
        first="CoTs of",
        groups=flat("token-weighted", "per-sample mean", "paper", "CoTs", "tokens"),
        rows=tuple(rows),
        legend="Grey: the paper's values, of Mistral and its training data; its code takes the mean over samples.",
    )


def corruption(statistics: Mapping[str, Any]) -> Table:
    """How often CoTs are broken, by where they stand and in which way."""
    entries = statistics.get("corruption") or []
    rates = (*_RATES, *(["error"] if any("error" in entry for entry in entries) else []))
    rows = [
        (Head(entry["where"]), (Cell(text=_plain(entry["n"])), *(_percent(entry, rate) for rate in rates)))
        for entry in entries
    ]
    return Table(
        id="corruption",
        caption="Broken CoTs",
        first="where",
        groups=flat("CoTs", *(rate.replace("_", " ") for rate in rates)),
        rows=tuple(rows),
        legend="Shares of the CoTs; one may be broken in several ways.",
    )


def meta_judge(statistics: Mapping[str, Any]) -> Table:
    """Appendix B.1: grades that another model gave to the CoTs; whatever plain values the results hold."""
    found = {
        name: values for name, values in (statistics.get("meta_judge") or {}).items() if isinstance(values, Mapping)
    }
    fields = list(
        dict.fromkeys(name for values in found.values() for name, value in values.items() if _is_scalar(name, value))
    )
    return Table(
        id="meta-judge",
        caption="Grades of the CoTs by a meta-judge (appendix B.1)",
        first="CoTs of",
        groups=flat(*(name.replace("_", " ") for name in fields), "paper"),
        rows=tuple(
            (
                Head(_SOURCES.get(source, source)),
                (*(_field_cell(values, name) for name in fields), _grey(paper.META_JUDGE.get(source), 2)),
            )
            for source, values in found.items()
        ),
    )


def robustness(statistics: Mapping[str, Any]) -> list[Table]:
    """For each attacked row, the judge first: how far each attack moves the expected score, the strongest first."""
    found, judge = statistics.get("robustness") or {}, (statistics.get("judge") or {}).get("row")
    return [_robustness(row, found[row]) for row in sorted(found, key=lambda row: (row != judge, row))]


def length(statistics: Mapping[str, Any]) -> Table:
    """Whether length moves the judge's score where gold is the same."""
    entries = [entry for entry in (statistics.get("judge") or {}).get("length") or [] if entry["value"] is not None]
    return Table(
        id="length-effect",
        caption="Score and length of the response, where gold is the same",
        first="benchmark",
        groups=flat("partial r", "n"),
        rows=tuple((Head(entry["bench"]), (of_entry(entry), Cell(text=_plain(entry["n"])))) for entry in entries),
        legend="Partial correlation of the expected score with the number of words of the response, gold held, with "
        "its interval by task: above 0 the judge likes longer responses more than the gold scores do.",
    )


def looking(statistics: Mapping[str, Any]) -> list[Table]:
    """For each attacked row, the judge first: what each check of its reading did to the score."""
    found, judge = statistics.get("looking") or {}, (statistics.get("judge") or {}).get("row")
    return [_looking(row, found[row]["checks"]) for row in sorted(found, key=lambda row: (row != judge, row))]


def _looking(row: str, records: Sequence[Mapping[str, Any]]) -> Table:
    counts = ("n", "n_left_out", "n_unscored")
    return Table(
        id=f"looking-{row}",
        caption=f"What moves the score, judge {row}",
        first="change",
        groups=flat("shift", "distance", "as it is", "changed", *(name.replace("_", " ") for name in counts)),
        rows=tuple(
            (
                Head(entry["check"], entry["about"]),
                (
                    of_entry(entry),
                    *(_value(entry, name, 2) for name in ("moved", "clean", "attacked")),
                    *(Cell(text=_plain(entry[name])) for name in counts),
                ),
            )
            for entry in records
            if entry["value"] is not None
        ),
        legend="Shift: mean expected score (RAIL) of the changed examples minus that of the same examples as they are, "
        "with its interval by task. Distance: the mean shift whatever its direction. The empty response is among the "
        "attacks.",
    )


def _robustness(row: str, records: Sequence[Mapping[str, Any]]) -> Table:
    ordered = sorted(records, key=lambda entry: (entry["value"] is None, -(entry["value"] or 0.0)))
    counts = ("n", "n_left_out", "n_unscored")
    return Table(
        id=f"robustness-{row}",
        caption=f"Attacks on the response, judge {row}",
        first="attack",
        groups=flat("shift", "clean", "attacked", "raised", "largest", *(name.replace("_", " ") for name in counts)),
        rows=tuple(
            (
                Head(entry["attack"], entry["about"]),
                (
                    of_entry(entry),
                    _value(entry, "clean", 2),
                    _value(entry, "attacked", 2),
                    _percent(entry, "raised"),
                    _value(entry, "largest", 2),
                    *(Cell(text=_plain(entry[name])) for name in counts),
                ),
            )
            for entry in ordered
        ),
        legend="Shift: mean expected score (RAIL) with the attack minus without it, with its interval by task. Raised: "
        "share of the rows that rise by half a step of the scale or more. An attack that replaces the response should "
        "lower the score; what counts there is the score it still gets (attacked).",
    )


def settings(params: Mapping[str, Any]) -> Table:
    """params.yaml as resolved, one row for each value."""
    return Table(
        id="settings-table",
        caption="Resolved settings",
        first="parameter",
        groups=flat("value"),
        rows=tuple((Head(name), (Cell(text=text, classes=("text",)),)) for name, text in flatten(params)),
    )


def flatten(params: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested parameters as (dotted name, value as JSON), in the order of the file."""
    found = []
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            found += flatten(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", json.dumps(value, ensure_ascii=False)))
    return found


def _other_metrics(numbers: Numbers, bench: str) -> Table:
    with_mass = any(key.metric == "label_mass" for key in numbers.entries)
    metrics = (*_OTHER_METRICS, *(["label_mass"] if with_mass else []))
    rows = [
        (Head(line.label, describe(line)), tuple(_metric_cells(numbers, line, bench, metrics)))
        for line in LINES
        if line.row in numbers.rows
    ]
    names = [METRICS.get(metric, metric.replace("_", " ")) for metric in metrics]
    return Table(
        id=f"other-metrics-{bench}",
        caption="Beside correlation, " + ("mean over our benchmarks" if bench == MEAN else bench),
        first="line",
        groups=flat(*names, "n", "n_ok"),
        rows=tuple(rows),
        legend="RMSE, MAE and bias (prediction minus gold) in units of the scale; exact (share of hits) and QWK "
        "(quadratically weighted kappa) after rounding to the scale; SD of scores: how much they vary (r says little "
        "of scores that hardly do); n: rows of the benchmark; n_ok: those with a prediction, mean over runs; of the "
        "mean, both are sums.",
    )


def _metric_cells(numbers: Numbers, line: Line, bench: str, metrics: Sequence[str]) -> list[Cell]:
    cells = [ours(numbers, Key(line.row, bench, line.predictor, metric)) for metric in metrics]
    entry = numbers.entries.get(Key(line.row, bench, line.predictor, "rmse"), {})
    return [*cells, *(Cell(text=_count(entry.get(name))) for name in ("n", "n_ok"))]


def _cross_cells(numbers: Numbers, row: str) -> list[Cell]:
    return [ours(numbers, Key(row, MEAN, name, metric)) for metric in ("pearson", "rmse") for name in PREDICTORS]


def _labels(row: str) -> str:
    lines = [line for line in LINES if line.row == row]
    return ", ".join(f"{line.label} = {line.predictor}" for line in lines)


def _difference_table(entries: Sequence[Mapping[str, Any]], bench: str) -> Table:
    chosen = {(entry["line"], entry["metric"]): entry for entry in entries if entry["bench"] == bench}
    metrics = [metric for metric in METRICS if any(key[1] == metric for key in chosen)]
    about = {line.label: describe(line) for line in LINES}
    labels = [
        label for label in dict.fromkeys([*about, *(key[0] for key in chosen)]) if any(label in k for k in chosen)
    ]
    rows = [
        (Head(label, about.get(label, "")), tuple(c for m in metrics for c in _difference(chosen.get((label, m)))))
        for label in labels
    ]
    return Table(
        id=f"differences-{bench}",
        caption="Line minus line 6, " + ("mean over our benchmarks" if bench == MEAN else bench),
        first="line",
        groups=tuple(Group(METRICS[metric], ("difference", "p", "p corrected")) for metric in metrics),
        rows=tuple(rows),
        legend="Paired: both lines are seen on the same tasks. Below 0 in a correlation, or above 0 in an error, line "
        "6 is the better one. p corrected: Holm's correction, for each benchmark and metric, over the lines of the "
        "paper and this project, and apart over the rows of one's own.",
    )


def _difference(entry: Mapping[str, Any] | None) -> list[Cell]:
    absent = "this line was not compared in this run"
    return [of_entry(entry, absent), _p_value(entry, "p"), _p_value(entry, "p_corrected")]


def _p_value(entry: Mapping[str, Any] | None, field: str) -> Cell:
    value = None if entry is None else finite(entry.get(field))
    if entry is None or value is None:
        return missing((entry or {}).get("reason") or "no difference, so no p")
    return Cell(text="<0.001" if value < 0.001 else show(value))


def _with_n(entry: Mapping[str, Any] | None) -> Cell:
    cell = of_entry(entry, "not measured in this run")
    if cell.reason or entry is None or finite(entry.get("n")) is None:
        return cell
    return replace(cell, lines=(*cell.lines, f"n = {entry['n']}"))


def _grey(value: float | None, digits: int) -> Cell:
    """A number of the paper beside ours from other data."""
    if value is None:
        return missing("the paper has no such number")
    return Cell(text=show(value, digits), classes=("paper", "grey"), title="the paper's number, other data than ours")


def _value(entry: Mapping[str, Any], field: str, digits: int) -> Cell:
    if finite(entry.get(field)) is None:
        return missing(entry.get("reason") or "no value, and no reason was recorded")
    return Cell(text=show(entry[field], digits))


def _percent(entry: Mapping[str, Any], rate: str) -> Cell:
    value = finite(entry.get(rate))
    return missing(entry.get("reason") or "not counted") if value is None else Cell(text=f"{value:.1%}")


def _field_cell(entry: Mapping[str, Any], name: str) -> Cell:
    value = entry.get(name)
    if value is None or (isinstance(value, float) and finite(value) is None):
        reason = "no standard deviation: it needs at least two seeds" if name.startswith("sd") else "not recorded"
        return missing(entry.get("reason") or reason)
    return Cell(text=_plain(value))


def _is_scalar(name: str, value: Any) -> bool:
    """Whether a field is a column; the reason of a null is a footnote instead."""
    return name != "reason" and (value is None or isinstance(value, str | int | float))


def _plain(value: Any) -> str:
    """A count, name or number as short text."""
    if value is None:
        return EMPTY
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 1 else show(value)
    return str(value)


def _count(value: Any) -> str:
    """A number of rows, which may be a mean over runs."""
    number = finite(value)
    return EMPTY if number is None else f"{number:.1f}".removesuffix(".0")


def _seed(seed: int | None) -> str:
    return "" if seed is None else f"training seed {seed}"
