"""Tables 2 and 6 (or 7 and 8): ours, the paper's and the authors' own runs side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tract_core.report import paper
from tract_core.report.cells import METRICS, Cell, Group, Head, Key, Numbers, Table, finite, missing, ours, ranks, show
from tract_core.report.paper import BENCHES, PaperTable
from tract_core.score.paper_lines import LINES, MEAN, Line

SIDES = ("ours", "paper", "authors' own runs")
# Half of the last digit that the paper prints: nearer than this, its number may lie inside.
_ROUNDING = 0.0005


@dataclass(frozen=True)
class _Column:
    """One column: a benchmark (or the mean), and whose numbers stand in it."""

    bench: str
    side: str


def comparison(numbers: Numbers, table: PaperTable, seed_model: str, settings: Mapping[str, Any]) -> Table:
    """One metric, the lines that have a number of ours, all our benchmarks and their mean.

    A benchmark that the paper does not have shows our numbers alone. The paper's means stand grey, without a
    mark, where our benchmarks are not exactly its four.
    """
    columns, lines = _columns(numbers), [line for line in LINES if line.row in numbers.rows]
    by_column = [_column(numbers, table, seed_model, column, lines) for column in columns]
    return Table(
        id=f"{table.name.lower().replace(' ', '-')}-{table.metric}",
        caption=f"{table.name}, {METRICS[table.metric]}",
        first="line",
        groups=_groups(numbers, columns),
        rows=tuple((_head(line), cells) for line, cells in zip(lines, zip(*by_column, strict=True), strict=True)),
        legend=_legend(numbers, seed_model, settings),
    )


def same_benchmarks(benches: Sequence[str]) -> bool:
    """Whether our mean is over the paper's four benchmarks."""
    return set(benches) == set(BENCHES)


def shown_benches(benches: Sequence[str]) -> list[str]:
    """Those of the paper in its order, then our others."""
    papers = [bench for bench in BENCHES if bench in benches]
    return papers + [bench for bench in benches if bench not in BENCHES]


def describe(line: Line) -> str:
    """What a line is, in a few words."""
    cots = "without CoT" if not line.cot else f"CoTs: {line.cots}"
    start = "" if line.start in ("seed model", "its own") else f", from {line.start}"
    return f"{line.trained_with}{start}; {cots}; {line.predictor}"


def _columns(numbers: Numbers) -> list[_Column]:
    return [
        _Column(bench, side)
        for bench in [*shown_benches(numbers.benches), MEAN]
        for side in (SIDES if bench in (*BENCHES, MEAN) else SIDES[:1])
    ]


def _groups(numbers: Numbers, columns: Sequence[_Column]) -> tuple[Group, ...]:
    names = dict.fromkeys(column.bench for column in columns)
    labels = {name: name for name in names} | {MEAN: f"mean of {', '.join(numbers.benches)}"}
    if same_benchmarks(numbers.benches):
        labels[MEAN] = "mean of the four"
    return tuple(Group(labels[name], tuple(c.side for c in columns if c.bench == name)) for name in names)


def _head(line: Line) -> Head:
    return Head(line.label, describe(line))


def _column(numbers: Numbers, table: PaperTable, seed_model: str, column: _Column, lines: Sequence[Line]) -> list[Cell]:
    """The cells of one column, with the best and the second best marked."""
    if column.side == "ours":
        found = [_of_ours(numbers, table, line, column.bench) for line in lines]
    elif column.side == "paper":
        found = [_of_paper(numbers, table, line, column.bench) for line in lines]
    else:
        found = [_of_authors(seed_model, table.metric, line, column.bench) for line in lines]
    marks = ranks([value for value, _ in found])
    other = column.side != "ours" and column.bench == MEAN and not same_benchmarks(numbers.benches)
    extra = ("grey",) if other else ()
    why = "; other benchmarks than ours, not comparable" if other else ""
    return [
        replace(
            cell,
            classes=tuple(filter(None, [*cell.classes, mark, *extra])),
            title=cell.title + (why if value is not None else ""),
        )
        for (value, cell), mark in zip(found, marks, strict=True)
    ]


def _of_ours(numbers: Numbers, table: PaperTable, line: Line, bench: str) -> tuple[float | None, Cell]:
    key = Key(line.row, bench, line.predictor, table.metric)
    entry = numbers.entries.get(key)
    return None if entry is None else finite(entry.get("value")), ours(numbers, key)


def _of_paper(numbers: Numbers, table: PaperTable, line: Line, bench: str) -> tuple[float | None, Cell]:
    value = paper.printed(table, line, bench)
    if value is None:
        return None, missing(table.absent if line.paper or not table.printed else "not a row of the paper's tables")
    cell = Cell(text=show(value), title=f"{table.name} of the paper, row {line.paper}", classes=("paper",))
    if bench == MEAN and not same_benchmarks(numbers.benches):
        return value, cell
    entry = numbers.entries.get(Key(line.row, bench, line.predictor, table.metric), {})
    return value, _marked(cell, value, entry)


def _marked(cell: Cell, value: float, entry: Mapping[str, Any]) -> Cell:
    """Mark a number of the paper that lies outside our interval."""
    low, high = finite(entry.get("low")), finite(entry.get("high"))
    if low is None or high is None or low - _ROUNDING <= value <= high + _ROUNDING:
        return cell
    mark, where = ("↑", "above") if value > high else ("↓", "below")
    return replace(
        cell,
        mark=mark,
        mark_text=f"{where} our interval",
        classes=(*cell.classes, "outside"),
        title=f"{cell.title}; {where} our interval {show(low)} to {show(high)}",
    )


def _of_authors(seed_model: str, metric: str, line: Line, bench: str) -> tuple[float | None, Cell]:
    value = paper.authors(seed_model, metric, line, bench)
    if value is None:
        return None, missing(paper.NO_LLAMA_RUN if paper.family(seed_model) == "llama" else paper.NO_AUTHORS_RUN)
    run = paper.AUTHORS[line.label]
    title = f"the authors' run {run.model}, {run.mode}, K = 1, seed 42"
    return value, Cell(text=show(value), title=title, classes=("authors",))


def _legend(numbers: Numbers, seed_model: str, settings: Mapping[str, Any]) -> str:
    seeds = f"{len(settings['seeds'])} training and {len(settings['infer_seeds'])} inference seed(s)"
    parts = [
        f"Ours: value, {settings['level']:.0%} interval over tasks, standard deviations over "
        f"{seeds}, apart, each where there are two or more; K = {settings['num_samples']}.",
        "Bold: best of the column; underlined: second best; both computed here.",
        "↑ ↓: the paper's number lies above or below our interval.",
    ]
    if not paper.is_seed_model_of_paper(seed_model):
        parts.append(f"Our seed model is {seed_model}, not the paper's: a difference is expected, not a finding.")
    if not same_benchmarks(numbers.benches):
        parts.append("Grey means: the paper's are over its four benchmarks, ours over other data.")
    return " ".join(parts)
