"""One row at two points of a project's history: is the variant better, or is it chance?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tract_core.base import places
from tract_core.base.config import Params
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.compare import results, statistics
from tract_core.compare.results import Examples
from tract_core.compare.statistics import Panel
from tract_core.score import collecting, scoring
from tract_core.score.paper_lines import MEAN, Line, line_of

_SHOWN = {"pearson": "r", "rmse": "RMSE"}
_HERE, _THERE = "here", "there"


@dataclass(frozen=True, kw_only=True)
class Side:
    """A row as it is at one revision."""

    params: Params
    row: str
    examples: Examples
    runs: scoring.Runs

    @classmethod
    def read(cls, params: Params, row: str) -> "Side":
        """From the artifacts below the working directory; a training seed that has not run is an error."""
        examples = {bench: places.judged(bench) for bench in params.benches}
        return cls(params=params, row=row, examples=examples, runs=collecting.all_runs(row, params.seeds))

    @property
    def scale(self) -> ScoreScale:
        return ScoreScale.create(self.params.scale.values, self.params.scale.labels)

    def of_bench(self, bench: str) -> list[statistics.Run]:
        """Its predictions, in the order of its examples, read as the row's line of the paper's tables is."""
        examples, read = self.examples[bench], line_of(self.row).predictor
        return results.runs_of(self.runs, bench, examples, read, self.scale, self.params.score)


def differences(here: Side, there: Side, name: str) -> list[Record]:
    """`here` minus `there` in each metric, on each benchmark and in the mean, as `differences` of statistics.json.

    Paired by task, and by training seed where both have the same ones.

    Args:
        here: with the examples and the scale.
        there: the same row at another revision.
        name: of that revision, for errors.

    Raises:
        UserError: the examples, their gold or the scale are not the same, so that nothing can be paired.
    """
    _require_the_same(here, there, name)
    panels = {bench: Panel.of_examples(judged) for bench, judged in here.examples.items()}
    read, level, values = line_of(here.row).predictor, here.params.statistics.level, here.scale.values
    sides = {_HERE: here, _THERE: there}
    runs = {(side, bench, read): one.of_bench(bench) for side, one in sides.items() for bench in panels}
    found = statistics.estimates(panels, runs, [(side, read) for side in sides], values)
    cells = statistics.summarize(panels, runs, list(sides), [read], values, found, level)
    line, other = (Line(label=side, row=side, predictor=read) for side in sides)
    return statistics.compare_lines([line], other, cells, found, level)


def sentences(found: Sequence[Record], here: Side, name: str) -> Iterator[str]:
    """The differences in r and RMSE for the terminal."""
    judged = here.examples.values()
    size = f"{sum(map(len, judged))} examples of {sum(len({one['group_id'] for one in rows}) for rows in judged)} tasks"
    yield f"row {here.row} here minus {here.row} at {name}, on the same {size}:"
    for record in found:
        if record["metric"] in _SHOWN and (record["bench"] != MEAN or len(here.examples) > 1):
            yield f"  {record['bench']:<20} {_SHOWN[record['metric']]:<5} {_said(record)}"


def _said(record: Record) -> str:
    if record["value"] is None:
        return f"undefined ({record['reason']})"
    if record["low"] is None:
        return f"{record['value']:+.3f} ({record['reason']})"
    p = "p <0.001" if record["p"] < 0.001 else f"p {record['p']:.3f}"
    limits = f"{record['value']:+.3f} ({record['low']:+.3f} to {record['high']:+.3f}), {p}"
    if record["retrained_low"] is None:
        return f"{limits}; for another training: {record['retrained_reason']}"
    return f"{limits}; for another training {record['retrained_low']:+.3f} to {record['retrained_high']:+.3f}"


def _require_the_same(here: Side, there: Side, name: str) -> None:
    if here.scale.values != there.scale.values:
        raise UserError(f"the scale at {name} is another one, so its scores cannot be compared with these")
    for bench, judged in here.examples.items():
        gold, other = ({one["id"]: one["gold"] for one in rows} for rows in (judged, there.examples.get(bench, [])))
        if apart := sorted(key for key in gold.keys() | other.keys() if gold.get(key) != other.get(key)):
            raise UserError(
                f"{len(apart)} examples of {bench} are not the same here and at {name} (first: {apart[0]}), so nothing "
                "can be paired: compare judges on the same benchmarks"
            )
