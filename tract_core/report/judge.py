"""The page's first tables: the judge beside what needs no model, the untrained model and the other rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tract_core.base.rows import UNTRAINED
from tract_core.report.cells import Cell, Group, Head, Key, Numbers, Table, finite, of_entry, ours, show
from tract_core.report.comparison import describe
from tract_core.score.paper_lines import LINES, MEAN, line_of

FEW_TASKS = 10
"""With fewer, an interval over tasks is a rough one (docs/rows.md)."""
FEW_OTHERS = 3
"""More rows than this stand in a table of their own, so that the predictions are not far down."""
_SHOWN = ("pearson", "rmse")
_VALUES, _COUNT = Group("", ("Pearson r", "RMSE")), Group("", ("n",))
_BASELINES = {
    "words": "a regression on the words of the response",
    "length": "a regression on its number of words",
    "constant": "always the mean score of training, {constant:.2f}",
    "chance": "the score of a training example drawn at random",
}


class Tables(NamedTuple):
    """One of each for each benchmark, with the mean over several before them; none where no row is complete."""

    beside: list[Table]
    """The judge, what it is compared with, and the other rows where they are few."""
    others: list[Table]
    """The other rows where they are many; without rows where they are few."""


def tables(numbers: Numbers, statistics: Mapping[str, Any]) -> Tables:
    """The judge beside the baselines and the other rows."""
    judge = statistics["judge"]
    if judge is None:
        return Tables([], [])
    sizes = {size["bench"]: size for size in judge["benches"]}
    benches = [MEAN, *sizes] if len(sizes) > 1 else list(sizes)
    found = [_Beside(numbers, statistics, bench, _size(list(sizes.values()), bench)) for bench in benches]
    return Tables([one.table() for one in found], [one.table_of_others() for one in found])


def without_numbers(numbers: Numbers, statistics: Mapping[str, Any]) -> str:
    """The rows that were asked for and have no number, with the reasons, as a sentence; empty where there are none."""
    reasons: dict[str, str] = {}
    for entry in statistics["cells"]:
        if entry["row"] not in numbers.rows:
            reasons.setdefault(entry["row"], entry.get("reason") or "no reason was recorded")
    named = "; ".join(f"{row} ({reason})" for row, reason in reasons.items())
    return f"Rows without a number: {named}." if named else ""


@dataclass(frozen=True)
class _Beside:
    """One benchmark, or the mean."""

    numbers: Numbers
    statistics: Mapping[str, Any]
    bench: str
    size: Mapping[str, int]

    def table(self) -> Table:
        compared, others = self._rows()
        return Table(
            id=f"judge-{self.bench}",
            caption=self._caption(),
            first="row",
            groups=(_VALUES, Group("the judge minus this row", _VALUES.columns), _COUNT),
            rows=tuple(
                (self._head(row), (*self._values(row), *self._differences(row), self._count(row)))
                for row in [*compared, *(others if len(others) <= FEW_OTHERS else [])]
            ),
            legend=self._legend(),
        )

    def table_of_others(self) -> Table:
        _, others = self._rows()
        return Table(
            id=f"others-{self.bench}",
            caption="The other rows, " + ("mean over the benchmarks" if self.bench == MEAN else self.bench),
            first="row",
            groups=(_VALUES, _COUNT),
            rows=tuple(
                (self._head(row), (*self._values(row), self._count(row)))
                for row in (others if len(others) > FEW_OTHERS else [])
            ),
        )

    @property
    def _judge(self) -> Mapping[str, Any]:
        judge: Mapping[str, Any] = self.statistics["judge"]
        return judge

    @property
    def _few(self) -> bool:
        return self.size["fewest_tasks"] < FEW_TASKS

    def _rows(self) -> tuple[list[str], list[str]]:
        """The judge and what it is compared with; the others in the order of the paper's tables."""
        untrained = [UNTRAINED] if UNTRAINED in self.numbers.rows else []
        compared = list(dict.fromkeys([self._judge["row"], *untrained, *_BASELINES]))
        order = dict.fromkeys([*(line.row for line in LINES), *sorted(self.numbers.rows)])
        return compared, [row for row in order if row in self.numbers.rows and row not in compared]

    def _head(self, row: str) -> Head:
        if row in _BASELINES:
            return Head(row, _BASELINES[row].format(constant=self._judge["constant"]))
        about = next((describe(line) for line in LINES if line.row == row), "")
        return Head(f"{row}, the judge" if row == self._judge["row"] else row, about)

    def _values(self, row: str) -> list[Cell]:
        return [self._marked(self._value(row, metric)) for metric in _SHOWN]

    def _differences(self, row: str) -> list[Cell]:
        return [self._marked(self._difference(row, metric)) for metric in _SHOWN]

    def _count(self, row: str) -> Cell:
        return Cell(text=_count(self._rmse(row)))

    def _value(self, row: str, metric: str) -> Cell:
        if row in _BASELINES:
            return _defined(of_entry(self._baseline(row, metric)))
        read = self._judge["predictor"] if row == self._judge["row"] else line_of(row).predictor
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
        read = self._judge["predictor"] if row == self._judge["row"] else line_of(row).predictor
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
        few = f" †: fewer than {FEW_TASKS} tasks, so the interval is a rough one." if self._few else ""
        return (
            f"In small print: {settings['level']:.0%} intervals over tasks, for the training seeds that were run and, "
            "from three of them on, for the mean of all trainings (another training); and standard deviations over "
            "seeds, by which single trainings differ, where there are two or more. The judge minus this row: on the "
            "same tasks; below 0 in RMSE or above 0 in r, the judge is the better one. n: examples with a score." + few
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
