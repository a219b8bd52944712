"""How far the numbers of a table can be trusted: intervals, paired comparisons, ceilings.

Rows on one task are not independent, so a statistic's standard error is that of the jackknife (Tukey 1958; Efron and
Stein 1981), which leaves out one task (cluster) with all its rows at a time: V = (G - 1) / G * sum of the squared
deviations of the G statistics from their mean. Limits are Student's with G - 1 degrees of freedom, on the scale of
Fisher's z for correlations and of the logarithm for errors. Of more than `_MOST_GROUPS` tasks groups are left out. Two
judges are compared without the same tasks, so their difference is paired. Benchmarks are independent.
`python -m bench.coverage` says how often such intervals hold the truth, and why no bootstrap is used.

There are two intervals. `low` to `high` is for the training seeds that were run, whose mean is the value.
`retrained_low` to `retrained_high` is for another training of the same judge: with S >= 3 training seeds of standard
deviation s its variance is V + s^2 / S, with Satterthwaite's degrees of freedom.

Shapes: N rows of a benchmark, C tasks, G groups of them, S training seeds.
"""

import hashlib
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tract_core.base.tables import Record
from tract_core.score.metrics import (
    CORRELATIONS,
    METRICS,
    Seeds,
    Table,
    agreement,
    correlations,
    mean_and_sd,
    over_benches,
    over_runs,
)
from tract_core.score.paper_lines import MEAN, Line

Array = NDArray[Any]
_MOST_GROUPS = 100
"""Of tasks that are left out in turn: more would cost time and hardly change t."""
_FEWEST_SEEDS = 3
"""Training seeds that an interval for another training needs."""
_LIMITS = ("low", "high", "retrained_low", "retrained_high", "retrained_reason")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The rows of one benchmark. Tasks are numbered 0 .. C-1; predictions come in the same order of rows."""

    gold_N: Array
    cluster_N: Array

    @classmethod
    def create(cls, gold: Sequence[float], group_ids: Sequence[str]) -> "Panel":
        """Tasks are the distinct group ids, in sorted order."""
        _, cluster_N = np.unique(np.asarray(group_ids, dtype=str), return_inverse=True)
        return cls(gold_N=np.asarray(gold, dtype=np.float64), cluster_N=cluster_N)

    @classmethod
    def of_examples(cls, examples: Sequence[Record]) -> "Panel":
        """Gold scores and tasks of rows of the examples table, in their order."""
        return cls.create([example["gold"] for example in examples], [example["group_id"] for example in examples])

    def kept(self) -> Array:
        """Which rows are left without each group of tasks: bool (G, N)."""
        num_tasks = int(self.cluster_N.max(initial=-1)) + 1
        order = np.random.default_rng(int.from_bytes(hashlib.sha256(b"groups").digest())).permutation(num_tasks)
        num_groups = min(num_tasks, _MOST_GROUPS)
        group_C = np.arange(num_tasks) if num_groups == num_tasks else order % num_groups
        return np.asarray(group_C[self.cluster_N] != np.arange(num_groups)[:, None])


@dataclass(frozen=True, kw_only=True)
class Run:
    """Predictions of one training seed (None: nothing was trained) and inference seed, NaN where missing."""

    training_seed: int | None
    inference_seed: int
    predictions_N: Array


Runs = Mapping[tuple[str, str, str], Sequence[Run]]
"""(row, bench, predictor) -> its runs."""


class Estimate(NamedTuple):
    """One statistic, and the same without each group of tasks; NaN where it is undefined.

    Inference seeds are averaged. Of a mean over benchmarks each part is left out by itself.
    """

    seeds: tuple[int | None, ...]
    by_seed_S: Array
    left_out: tuple[Array, ...]
    """For each benchmark (G, S): its share of the statistic without each group."""

    @classmethod
    def single(cls, value: float, left_out_G: Array) -> "Estimate":
        """A statistic that is no mean over training seeds."""
        return cls((None,), np.array([value]), (left_out_G[:, None],))

    @property
    def value(self) -> float:
        return float(self.by_seed_S.mean())

    def minus(self, other: "Estimate") -> "Estimate":
        """The paired difference: by task, and by training seed where both have the same ones."""
        first, second = (self, other) if self.seeds == other.seeds else (self._pooled(other), other._pooled(self))
        parts = zip(first.left_out, second.left_out, strict=True)
        seeds = first.seeds if len(first.seeds) > 1 or second.seeds == (None,) else second.seeds
        return Estimate(seeds, first.by_seed_S - second.by_seed_S, tuple(a - b for a, b in parts))

    def _pooled(self, other: "Estimate") -> "Estimate":
        """One number in place of several seeds, unless the other one has a single number to subtract from each."""
        if len(other.seeds) == 1 or len(self.seeds) == 1:
            return self
        return Estimate(
            (None,),
            self.by_seed_S.mean(keepdims=True),
            tuple(part.mean(axis=1, keepdims=True) for part in self.left_out),
        )

    @classmethod
    def mean(cls, parts: Sequence["Estimate"]) -> "Estimate":
        """Over benchmarks, with equal weight; by training seed where all have the same ones."""
        if any(part.seeds != parts[0].seeds for part in parts):
            parts = [cls.single(part.value, part.left_out[0].mean(axis=1)) for part in parts]
        left_out = tuple(part_GS / len(parts) for part in parts for part_GS in part.left_out)
        return cls(parts[0].seeds, np.mean([part.by_seed_S for part in parts], axis=0), left_out)

    def spread(self) -> tuple[float, float]:
        """Variance over tasks of the mean over seeds, and its degrees of freedom; NaN where something is undefined."""
        parts = [_jackknife(part_GS.mean(axis=1)) for part_GS in self.left_out]
        return _satterthwaite([(variance, len(part) - 1) for variance, part in zip(parts, self.left_out, strict=True)])


Estimates = Mapping[tuple[str, str, str, str], Estimate]
"""(row, bench or MEAN, predictor, metric) -> its estimate."""


def estimates(
    panels: Mapping[str, Panel], runs: Runs, pairs: Iterable[tuple[str, str]], values: Sequence[float]
) -> dict[tuple[str, str, str, str], Estimate]:
    """Every metric of METRICS of every (row, predictor) of `pairs`, on every benchmark and in their mean.

    Pairs without runs on a benchmark are absent there and in the mean.
    """
    found: dict[tuple[str, str, str, str], Estimate] = {}
    pairs = list(dict.fromkeys(pairs))
    for (bench, panel), (row, predictor) in itertools.product(panels.items(), pairs):
        if of_pair := runs.get((row, bench, predictor), ()):
            by_metric = _by_metric(of_pair, panel, values)
            found |= {(row, bench, predictor, metric): estimate for metric, estimate in by_metric.items()}
    for (row, predictor), metric in itertools.product(pairs, METRICS):
        parts = [found.get((row, bench, predictor, metric)) for bench in panels]
        if parts and all(parts):
            found[row, MEAN, predictor, metric] = Estimate.mean([part for part in parts if part is not None])
    return found


def _by_metric(runs: Sequence[Run], panel: Panel, values: Sequence[float]) -> dict[str, Estimate]:
    seeds = tuple(dict.fromkeys(run.training_seed for run in runs))
    kept_GN = panel.kept()
    chosen = [np.ones(len(panel.gold_N), dtype=bool), *kept_GN]
    # (1 + G, S, metrics): first of all rows, then without each group.
    table = np.array(
        [
            [
                np.mean(
                    [
                        _numbers(run.predictions_N[rows_N], panel.gold_N[rows_N], values)
                        for run in runs
                        if run.training_seed == seed
                    ],
                    axis=0,
                )
                for seed in seeds
            ]
            for rows_N in chosen
        ]
    )
    return {metric: Estimate(seeds, table[0, :, place], (table[1:, :, place],)) for place, metric in enumerate(METRICS)}


def _numbers(predictions_N: Array, gold_N: Array, values: Sequence[float]) -> list[float]:
    found = agreement(predictions_N, gold_N, values)
    return [math.nan if found[metric] is None else found[metric] for metric in METRICS]


def limits(estimate: Estimate | None, metric: str | None, level: float) -> Record:
    """`low` and `high` for these seeds, `retrained_low` and `retrained_high` for another training, and why not.

    Args:
        estimate: None where there is none, which needs no reason.
        metric: decides the scale on which the interval is symmetric; None for differences and means.
        level: the probability inside an interval, such as 0.95.
    """
    record: Record = dict.fromkeys((*_LIMITS, "reason"))
    if estimate is None:
        return record
    groups = min(len(part) for part in estimate.left_out)
    if groups < 2:
        return {**record, "reason": "no interval: all examples are of one task"}
    variance, degrees = estimate.spread()
    if not math.isfinite(variance):
        return {**record, "reason": "no interval: undefined without one of the tasks"}
    record["low"], record["high"] = _ends(estimate.value, variance, degrees, metric, level)
    num_seeds = len(estimate.seeds)
    if num_seeds < _FEWEST_SEEDS:
        trained = estimate.seeds != (None,)
        why = f"needs {_FEWEST_SEEDS} training seeds, has {num_seeds}" if trained else "is no mean over training seeds"
        return {**record, "retrained_reason": why}
    between = float(estimate.by_seed_S.var(ddof=1)) / num_seeds
    total, degrees = _satterthwaite([(variance, degrees), (between, num_seeds - 1)])
    record["retrained_low"], record["retrained_high"] = _ends(estimate.value, total, degrees, metric, level)
    return record


def _jackknife(left_out_G: Array) -> float:
    num_groups = len(left_out_G)
    return float((num_groups - 1) * np.mean((left_out_G - left_out_G.mean()) ** 2)) if num_groups else math.nan


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Sum of independent variances with their degrees of freedom -> itself, and its own (Satterthwaite 1946)."""
    total = sum(variance for variance, _ in parts)
    squares = sum(variance**2 / degrees for variance, degrees in parts if variance)
    return total, total**2 / squares if squares else math.inf


def _ends(value: float, variance: float, degrees: float, metric: str | None, level: float) -> tuple[float, float]:
    """Limits, symmetric in Fisher's z of a correlation, in the logarithm of an error or spread, else in the value."""
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * math.sqrt(variance)
    if not half:
        return value, value
    if metric in CORRELATIONS and abs(value) < 1:
        z, width = math.atanh(value), half / (1 - value**2)
        return math.tanh(z - width), math.tanh(z + width)
    if metric in ("rmse", "mae", "predicted_sd") and value > 0:
        return value * math.exp(-half / value), value * math.exp(half / value)
    return value - half, value + half


def summarize(
    panels: Mapping[str, Panel],
    runs: Runs,
    rows: Sequence[str],
    predictors: Sequence[str],
    values: Sequence[float],
    found: Estimates,
    level: float,
) -> list[Record]:
    """`cells` of statistics.json: rows x predictors x (benchmarks and MEAN) x METRICS.

    The numbers are those of `metrics.over_runs` and `over_benches`. There are intervals where `found` has the cell.
    """
    cells = []
    for row, predictor in itertools.product(rows, predictors):
        tables = {
            bench: over_runs(
                _predictions(runs.get((row, bench, predictor), ())),
                panel.gold_N,
                values,
                absent=f"no predictions of row {row}",
            )
            for bench, panel in panels.items()
        }
        tables[MEAN] = over_benches(tables)
        for metric, (bench, table) in itertools.product(METRICS, tables.items()):
            key = {"row": row, "bench": bench, "predictor": predictor, "metric": metric}
            estimate = found.get((row, bench, predictor, metric))
            cells.append({**key, **_with_limits(_summary(table, metric), estimate, metric, level)})
    return cells


def compare_lines(
    lines: Sequence[Line], reference: Line, cells: Sequence[Record], found: Estimates, level: float
) -> list[Record]:
    """`differences` of statistics.json: each line minus the reference line, on the same left-out tasks.

    `p` is that of the two-sided t test for these seeds; `p_corrected` is Holm's over the lines that have one, for each
    benchmark and metric apart. `found` must hold the lines whose cells have a value.
    """
    by_key = {(cell["row"], cell["bench"], cell["predictor"], cell["metric"]): cell for cell in cells}
    benches = dict.fromkeys(cell["bench"] for cell in cells)
    records = []
    for bench, metric in itertools.product(benches, METRICS):
        family = []
        for line in lines:
            if line != reference:
                record = _line_difference((line, reference), bench, metric, by_key, found, level)
                family.append({"line": line.label, "bench": bench, "metric": metric, **record})
        records += _corrected(family)
    return records


def rmse_gap(
    row: str, training_N: Array | None, own_N: Array | None, panel: Panel, level: float
) -> tuple[list[Record], Record]:
    """`table3` of statistics.json for one row: RMSE on training CoTs, on own CoTs, and own - training.

    All three are over the training rows that have both predictions. None: this condition was not run, and the
    other one stands on all rows that it has.
    """
    given = {"training": training_N, "own": own_N}
    run_N = [predictions_N for predictions_N in given.values() if predictions_N is not None]
    used_N = np.isfinite(np.stack([panel.gold_N, *run_N])).all(axis=0)
    kept_GN = Panel(gold_N=panel.gold_N[used_N], cluster_N=_renumbered(panel.cluster_N[used_N])).kept()
    cells, found = [], list[Estimate]()
    for cots, predictions_N in given.items():
        summary: Record = {"value": None, "n": 0, "reason": f"no predictions of row {row} on {cots} CoTs"}
        if predictions_N is not None:
            square_N = (predictions_N - panel.gold_N)[used_N] ** 2
            summary = {"value": None, "n": len(square_N), "reason": "no row has a prediction in every condition"}
            if len(square_N):
                found.append(_root_mean(square_N, kept_GN))
                summary = {**summary, "value": found[-1].value, "reason": None}
        cells.append({"row": row, "cots": cots, **_with_limits(summary, found[-1] if found else None, "rmse", level)})
    missing = dict.fromkeys(cell["reason"] for cell in cells if cell["value"] is None)
    if missing:
        return cells, {"row": row, **null_difference("; ".join(missing))}
    return cells, {"row": row, **difference(cells[::-1], found[::-1], level)}


def mean_by_cluster(values_N: Array, group_ids: Sequence[str], level: float) -> Record:
    """Mean of one number for each row, with an interval over tasks; null with a reason without rows."""
    if not len(values_N):
        return _with_limits({"value": None, "n": 0, "reason": "no row has a value"}, None, None, level)
    kept_GN = Panel.create(values_N.tolist(), group_ids).kept()
    left_out_G = np.array([values_N[kept_N].mean() if kept_N.any() else math.nan for kept_N in kept_GN])
    estimate = Estimate.single(float(values_N.mean()), left_out_G)
    return _with_limits({"value": estimate.value, "n": len(values_N), "reason": None}, estimate, None, level)


def partial_by_cluster(
    first_N: Array, second_N: Array, held_N: Array, group_ids: Sequence[str], level: float
) -> Record:
    """Pearson's r of two numbers with a third one held, with an interval over tasks; null where it is undefined.

    It is the correlation of what a straight line in the third leaves of each.
    """
    value = partial_correlation(first_N, second_N, held_N)
    n = len(first_N)
    if math.isnan(value):
        return _with_limits({"value": None, "n": n, "reason": "one of the three hardly varies"}, None, None, level)
    kept_GN = Panel.create(held_N.tolist(), group_ids).kept()
    left_out = [partial_correlation(first_N[kept_N], second_N[kept_N], held_N[kept_N]) for kept_N in kept_GN]
    estimate = Estimate.single(value, np.array(left_out))
    return _with_limits({"value": value, "n": n, "reason": None}, estimate, "pearson", level)


def partial_correlation(first_N: Array, second_N: Array, held_N: Array) -> float:
    """NaN where one of them is constant, or the third explains another one whole."""
    if len(first_N) < 4 or min(np.ptp(first_N), np.ptp(second_N), np.ptp(held_N)) <= 1e-12:
        return math.nan
    r = np.corrcoef([first_N, second_N, held_N])
    rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / math.sqrt(rest)) if rest > 1e-12 else math.nan


def _root_mean(square_N: Array, kept_GN: Array) -> Estimate:
    left_out = [math.sqrt(square_N[kept_N].mean()) if kept_N.any() else math.nan for kept_N in kept_GN]
    return Estimate.single(math.sqrt(square_N.mean()), np.array(left_out))


def _renumbered(cluster_N: Array) -> Array:
    return np.unique(cluster_N, return_inverse=True)[1]


def annotator_ceiling(bench: str, gold_scores: Sequence[Sequence[float]]) -> list[Record]:
    """`ceiling` of statistics.json: what agreement with gold can be expected of a judge, from several scores of a row.

    `one annotator`: one annotator against the mean of the others, averaged over annotators. `a judge without noise`:
    the r that the true score would have with the mean of k scores, sqrt(ICC(k)) with the one-way ICC of Shrout and
    Fleiss (1979). A good judge can lie between the two.

    Args:
        bench: name of the benchmark, for the records.
        gold_scores: the scores of each row; position a is annotator a in every row.
    """
    counts = {len(scores) for scores in gold_scores}
    reason, by_annotator = _why_no_ceiling(counts), []
    scores_NA = np.array([[]] if reason else gold_scores, dtype=np.float64)
    for a in range(scores_NA.shape[1]):
        found, undefined = correlations(scores_NA[:, a], np.delete(scores_NA, a, axis=1).mean(axis=1))
        by_annotator.append(found)
        reason = reason or (f"annotator {a + 1}: {undefined}" if undefined else None)
    key = {"bench": bench, "num_annotators": max(counts, default=0), "reason": reason}
    alone = [
        {"of": "one annotator", "metric": m, "value": None if reason else mean_and_sd([f[m] for f in by_annotator])[0]}
        for m in CORRELATIONS
    ]
    noise_free = {"of": "a judge without noise", "metric": "pearson", "value": None if reason else _root_icc(scores_NA)}
    return [{**key, **record} for record in [*alone, noise_free]]


def _root_icc(scores_NA: Array) -> float:
    """Root of the reliability of the mean of a row's scores: (between - within) / between, mean squares."""
    num_rows, k = scores_NA.shape
    between = k * scores_NA.mean(axis=1).var(ddof=1)
    within = ((scores_NA - scores_NA.mean(axis=1, keepdims=True)) ** 2).sum() / (num_rows * (k - 1))
    return math.sqrt(max(0.0, float((between - within) / between)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the k-th smallest of m times m - k + 1, never decreasing, at most 1."""
    corrected, running = [0.0] * len(p_values), 0.0
    for k, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - k) * p_values[index]))
        corrected[index] = running
    return corrected


def _predictions(runs: Sequence[Run]) -> dict[Seeds, Array]:
    found = {(run.training_seed, run.inference_seed): run.predictions_N for run in runs}
    assert len(found) == len(runs), "two runs of one row have the same seeds"
    return found


def _summary(table: Table, metric: str) -> Record:
    """One metric of one row on one benchmark or on their mean, without its interval."""
    cell = table.cells[metric]
    spreads = {"sd_training": cell.sd_training, "sd_inference": cell.sd_inference}
    reason = "; ".join(cell.reasons) or None
    return {"value": cell.value, **spreads, "n": table.n, "n_ok": table.n_ok, "reason": reason}


def _with_limits(summary: Record, estimate: Estimate | None, metric: str | None, level: float) -> Record:
    """The summary with its limits, which are null where the value is, or without an estimate."""
    found = limits(None if summary["value"] is None else estimate, metric, level)
    return {**summary, **found, "reason": summary["reason"] or found["reason"]}


def _line_difference(
    pair: tuple[Line, Line],
    bench: str,
    metric: str,
    by_key: Mapping[tuple[str, str, str, str], Record],
    found: Estimates,
    level: float,
) -> Record:
    """The first line minus the second in one metric on one benchmark, or why there is no difference."""
    keys = [(line.row, bench, line.predictor, metric) for line in pair]
    cells = [by_key[key] for key in keys]
    missing = [f"{line.label}: {c['reason']}" for line, c in zip(pair, cells, strict=True) if c["value"] is None]
    if missing:
        return null_difference("; ".join(missing))
    return difference(cells, [found[key] for key in keys], level)


def difference(cells: Sequence[Record], found: Sequence[Estimate], level: float) -> Record:
    """First minus second of two cells that have values: value, paired intervals and p."""
    estimate = found[0].minus(found[1])
    record = {"value": cells[0]["value"] - cells[1]["value"], "reason": None}
    record = _with_limits(record, estimate, None, level)
    return {**record, "p": None if record["low"] is None else _p_value(record["value"], *estimate.spread())}


def null_difference(reason: str) -> Record:
    """A difference that is not there, and why."""
    return {**dict.fromkeys(("value", *_LIMITS, "p")), "reason": reason}


def _p_value(value: float, variance: float, degrees: float) -> float:
    """Two-sided t test of no difference."""
    if not variance:
        return 0.0 if value else 1.0
    return float(2 * stats.t.sf(abs(value) / math.sqrt(variance), degrees))


def _corrected(family: Sequence[Record]) -> list[Record]:
    """The records with `p_corrected`: Holm's over those that have a p value."""
    corrected = iter(holm([record["p"] for record in family if record["p"] is not None]))
    return [{**record, "p_corrected": None if record["p"] is None else next(corrected)} for record in family]


def _why_no_ceiling(counts: Collection[int]) -> str | None:
    """Why one annotator cannot be compared with the others, from the numbers of scores that rows have."""
    if not counts:
        return "no rows"
    if max(counts) < 2:
        return "one gold score per row"
    if len(counts) > 1:
        return f"rows have from {min(counts)} to {max(counts)} gold scores; annotators cannot be told apart"
    return None
