"""The page's first table: the judge beside what needs no model, the untrained model and the other rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tract_core.base.rows import UNTRAINED
from tract_core.report.cells import Cell, Group, Head, Key, Numbers, Table, finite, of_entry, ours, show
from tract_core.report.comparison import describe
from tract_core.score.paper_lines import LINES, MEAN

FEW_TASKS = 10
"""With fewer, an interval over tasks is too narrow (docs/rows.md)."""
_SHOWN = ("pearson", "rmse")
_BASELINES = {
    "words": "a regression on the words of the response",
    "length": "a regression on its number of words",
    "constant": "always the mean score of training, {constant:.2f}",
    "chance": "the score of a training example drawn at random",
}


def tables(numbers: Numbers, statistics: Mapping[str, Any]) -> list[Table]:
    """One table for each benchmark, with the mean over several before them; none where no row is complete."""
    judge = statistics["judge"]
    if judge is None:
        return []
    sizes = {size["bench"]: size for size in judge["benches"]}
    benches = [MEAN, *sizes] if len(sizes) > 1 else list(sizes)
    return [_Beside(numbers, statistics, bench, _size(list(sizes.values()), bench)).table() for bench in benches]


def without_numbers(numbers: Numbers, statistics: Mapping[str, Any]) -> str:
    """The rows that were asked for and have no number, with the reasons, as a sentence; empty where there are none."""
    reasons: dict[str, str] = {}
    for entry in statistics["cells"]:
        if entry["row"] not in numbers.rows:
            reasons.setdefault(entry["row"], entry.get("reason") or "no reason was recorded")
    named = "; ".join(f"{row} ({reason})" for row, reason in reasons.items())
    return f"Rows without a number: {named}." if named else ""


def predictor(row: str) -> str:
    """How a row is read: as the first line of the paper's tables that shows it, else by its expected score."""
    return next((line.predictor for line in LINES if line.row == row), "rail")


@dataclass(frozen=True)
class _Beside:
    """One benchmark, or the mean."""

    numbers: Numbers
    statistics: Mapping[str, Any]
    bench: str
    size: Mapping[str, int]

    def table(self) -> Table:
        return Table(
            id=f"judge-{self.bench}",
            caption=self._caption(),
            first="row",
            groups=(
                Group("", ("Pearson r", "RMSE")),
                Group("the judge minus this row", ("Pearson r", "RMSE")),
                Group("", ("n",)),
            ),
            rows=tuple((self._head(row), tuple(map(self._marked, self._cells(row)))) for row in self._rows()),
            legend=self._legend(),
        )

    @property
    def _judge(self) -> Mapping[str, Any]:
        judge: Mapping[str, Any] = self.statistics["judge"]
        return judge

    @property
    def _few(self) -> bool:
        return self.size["fewest_tasks"] < FEW_TASKS

    def _rows(self) -> list[str]:
        """The judge, what it is compared with, the others in the order of the paper's tables."""
        known = [row for row in dict.fromkeys(line.row for line in LINES) if row in self.numbers.rows]
        order = [self._judge["row"], UNTRAINED, *_BASELINES, *known, *sorted(self.numbers.rows)]
        return [row for row in dict.fromkeys(order) if row in _BASELINES or row in self.numbers.rows]

    def _head(self, row: str) -> Head:
        if row in _BASELINES:
            return Head(row, _BASELINES[row].format(constant=self._judge["constant"]))
        about = next((describe(line) for line in LINES if line.row == row), "")
        return Head(f"{row}, the judge" if row == self._judge["row"] else row, about)

    def _cells(self, row: str) -> list[Cell]:
        differences = [self._difference(row, metric) for metric in _SHOWN]
        return [*(self._value(row, metric) for metric in _SHOWN), *differences, Cell(text=_count(self._rmse(row)))]

    def _value(self, row: str, metric: str) -> Cell:
        if row in _BASELINES:
            return _defined(of_entry(self._baseline(row, metric)))
        read = self._judge["predictor"] if row == self._judge["row"] else predictor(row)
        return _defined(ours(self.numbers, Key(row, self.bench, read, metric)))

    def _difference(self, row: str, metric: str) -> Cell:
        """Empty where there is nothing to subtract: the judge itself, chance, rows that it is not compared with."""
        key = (row, self.bench, metric)
        found = next((d for d in self._judge["against"] if (d["baseline"], d["bench"], d["metric"]) == key), None)
        if found is None:
            return Cell(text="")
        cell = _defined(of_entry(found))
        return cell if cell.reason else replace(cell, lines=(*cell.lines, _p_value(found)))

    def _baseline(self, row: str, metric: str) -> Mapping[str, Any]:
        entries: Sequence[Mapping[str, Any]] = self._judge["baselines"]
        return next(e for e in entries if (e["row"], e["bench"], e["metric"]) == (row, self.bench, metric))

    def _rmse(self, row: str) -> Mapping[str, Any]:
        if row in _BASELINES:
            return self._baseline(row, "rmse")
        read = self._judge["predictor"] if row == self._judge["row"] else predictor(row)
        return self.numbers.entries.get(Key(row, self.bench, read, "rmse"), {})

    def _marked(self, cell: Cell) -> Cell:
        """With a dagger behind an interval that stands on few tasks."""
        lines = tuple(f"{line} †" if self._few and " to " in line else line for line in cell.lines)
        return replace(cell, lines=lines)

    def _caption(self) -> str:
        size, place = self.size, "Mean over the benchmarks" if self.bench == MEAN else self.bench
        cots = f"{size['num_bad_cots']} of the judge's {size['num_cots']} CoTs are bad"
        return f"{place}: {size['n']} examples of {size['num_tasks']} tasks; {cots}"

    def _legend(self) -> str:
        settings = self.statistics["settings"]
        few = f" †: fewer than {FEW_TASKS} tasks, so the interval is too narrow." if self._few else ""
        return (
            f"In small print: {settings['level']:.0%} intervals over tasks ({settings['resamples']} resamples), and "
            "standard deviations over seeds where there are two or more. The judge minus this row: both are resampled "
            "together; below 0 in RMSE or above 0 in r, the judge is the better one. n: examples with a score." + few
        )


def _size(sizes: Sequence[Mapping[str, Any]], bench: str) -> dict[str, int]:
    """What the numbers of a benchmark (or of all) stand on."""
    chosen = [size for size in sizes if bench in (MEAN, size["bench"])]
    sums = {name: sum(size[name] for size in chosen) for name in ("n", "num_tasks", "num_cots", "num_bad_cots")}
    return {**sums, "fewest_tasks": min(size["num_tasks"] for size in chosen)}


def _defined(cell: Cell) -> Cell:
    """A number that cannot be computed has a word and not a dash."""
    return replace(cell, text="undefined") if cell.reason else cell


def _p_value(entry: Mapping[str, Any]) -> str:
    p = finite(entry.get("p"))
    return "no p" if p is None else "p < 0.001" if p < 0.001 else f"p = {show(p)}"


def _count(entry: Mapping[str, Any]) -> str:
    """`40`, or `39.5 of 40` where some examples have no score."""
    n, scored = finite(entry.get("n")), finite(entry.get("n_ok"))
    if n is None:
        return ""
    return f"{n:g}" if scored is None or scored == n else f"{scored:g} of {n:g}"
