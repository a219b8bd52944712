"""How far the numbers of a table can be trusted: intervals, paired comparisons, ceilings.

Rows on one task are not independent, so the bootstrap draws tasks (clusters) with replacement, each with all
its rows. Every metric is computed exactly as on the rows of the resample, but from the clusters' weights.
All rows of one benchmark see the same resamples, so that differences between judges are paired. Training and
inference seeds are not resampled: an interval holds for the mean over the seeds that were run, and the spread
over seeds is given beside it.

Shapes: N rows of a benchmark (those with a prediction, inside the helpers), C clusters, R resamples,
V distinct values of one variable, D distinct (prediction, gold) pairs.
"""

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tract_core.base.tables import Record
from tract_core.score.metrics import (
    CONSTANT,
    CORRELATIONS,
    METRICS,
    Seeds,
    Table,
    correlations,
    mean_and_sd,
    nearest_score,
    over_benches,
    over_runs,
    quadratic_kappa,
)
from tract_core.score.paper_lines import MEAN, Line

Array = NDArray[Any]
Draws = Mapping[tuple[str, str, str, str], Array]
"""(row, bench or MEAN, predictor, metric) -> the statistic in each resample, NaN where undefined."""
_BLOCK = 2**22
"""Numbers in an array of pairs x resamples (32 MiB): resamples are taken in blocks, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The rows of one benchmark. Clusters are numbered 0 .. C-1; predictions come in the same order of rows."""

    gold_N: Array
    cluster_N: Array

    @classmethod
    def create(cls, gold: Sequence[float], group_ids: Sequence[str]) -> "Panel":
        """Clusters are the distinct group ids (tasks), in sorted order."""
        _, cluster_N = np.unique(np.asarray(group_ids), return_inverse=True)
        return cls(gold_N=np.asarray(gold, dtype=np.float64), cluster_N=cluster_N)

    @classmethod
    def of_examples(cls, examples: Sequence[Record]) -> "Panel":
        """Gold scores and tasks of rows of the examples table, in their order."""
        return cls.create([example["gold"] for example in examples], [example["group_id"] for example in examples])

    @property
    def num_clusters(self) -> int:
        return int(self.cluster_N.max()) + 1 if len(self.cluster_N) else 0


@dataclass(frozen=True, kw_only=True)
class Run:
    """Predictions of one training seed (None: nothing was trained) and inference seed, NaN where missing."""

    training_seed: int | None
    inference_seed: int
    predictions_N: Array


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """`level` is the probability inside an interval, such as 0.95."""

    resamples: int
    seed: int
    level: float


Runs = Mapping[tuple[str, str, str], Sequence[Run]]
"""(row, bench, predictor) -> its runs."""


class _Interval(NamedTuple):
    low: float | None
    high: float | None
    num_undefined: int | None
    reason: str | None


class _Comparison(NamedTuple):
    """Which of the D pairs are compared with which; `first` .. `last` are bounds of slices of `lower`, as sorted.

    Against each of `higher` stand lower[first:last]; up to `smaller` their predictions are smaller than its own, from
    `not_larger` on they are larger.
    """

    lower: Array
    higher: Array
    first: Array
    smaller: Array
    not_larger: Array
    last: Array


def cluster_weights(num_clusters: int, resamples: int, seed: int | str) -> Array:
    """How often each cluster is drawn in each resample: integers (R, C), every row sums to C.

    The seed is hashed together with both sizes; integers are drawn, so any machine gives the same weights.
    """
    digest = hashlib.sha256(f"{seed}|{num_clusters}|{resamples}".encode()).digest()
    drawn_RC = np.random.default_rng(int.from_bytes(digest)).integers(num_clusters, size=(resamples, num_clusters))
    cells = drawn_RC * resamples + np.arange(resamples)[:, None]
    # Laid out by cluster, as all sums below want it.
    return np.bincount(cells.ravel(), minlength=num_clusters * resamples).reshape(num_clusters, resamples).T


def resampled_metrics(
    predictions_N: Array, panel: Panel, weights_RC: Array, values: Sequence[float]
) -> dict[str, Array]:
    """Each metric of METRICS in each resample (R,), as on the rows repeated by their cluster's weight.

    NaN where it is undefined in the resample: nothing drawn that has a prediction, or no spread.
    """
    has_N = np.isfinite(predictions_N)
    predicted_N, gold_N, cluster_N = predictions_N[has_N], panel.gold_N[has_N], panel.cluster_N[has_N]
    weights_CR = np.ascontiguousarray(weights_RC.T, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = _error_metrics(predicted_N, gold_N, cluster_N, weights_CR, values)
        result["pearson"] = _pearson(predicted_N, gold_N, cluster_N, weights_CR)
        result |= _rank_correlations(predicted_N, gold_N, cluster_N, weights_CR)
    constant_R = _is_constant(predicted_N, cluster_N, weights_CR) | _is_constant(gold_N, cluster_N, weights_CR)
    for name in CORRELATIONS:
        result[name][constant_R] = np.nan
    return {name: result[name] for name in METRICS}


def resample(
    panels: Mapping[str, Panel],
    runs: Runs,
    pairs: Iterable[tuple[str, str]],
    values: Sequence[float],
    bootstrap: Bootstrap,
) -> Draws:
    """The bootstrap of every (row, predictor) of `pairs` on every benchmark and on their mean.

    A statistic is the mean over the row's runs; benchmarks are resampled independently. Pairs without runs on
    a benchmark are absent there and in the mean.
    """
    draws: dict[tuple[str, str, str, str], Array] = {}
    pairs = list(dict.fromkeys(pairs))
    for bench, panel in panels.items():
        weights_RC = cluster_weights(panel.num_clusters, bootstrap.resamples, f"{bootstrap.seed}|{bench}")
        for row, predictor in pairs:
            found = runs.get((row, bench, predictor), ())
            parts = [resampled_metrics(run.predictions_N, panel, weights_RC, values) for run in found]
            for metric in METRICS if parts else ():
                draws[row, bench, predictor, metric] = np.mean([part[metric] for part in parts], axis=0)
    for row, predictor in pairs:
        for metric in METRICS:
            keys = [(row, bench, predictor, metric) for bench in panels]
            if all(key in draws for key in keys):
                draws[row, MEAN, predictor, metric] = np.mean([draws[key] for key in keys], axis=0)
    return draws


def summarize(
    panels: Mapping[str, Panel],
    runs: Runs,
    rows: Sequence[str],
    predictors: Sequence[str],
    values: Sequence[float],
    draws: Draws,
    level: float,
) -> list[Record]:
    """`cells` of statistics.json: rows x predictors x (benchmarks and MEAN) x METRICS.

    The numbers are those of `metrics.over_runs` and `over_benches`. There are intervals where `draws` has the cell;
    `num_undefined` counts the resamples that were left out of one.
    """
    cells = []
    for row, predictor in itertools.product(rows, predictors):
        found = {
            bench: over_runs(
                _predictions(runs.get((row, bench, predictor), ())),
                panel.gold_N.tolist(),
                values,
                absent=f"no predictions of row {row}",
            )
            for bench, panel in panels.items()
        }
        found[MEAN] = over_benches(found)
        for metric, (bench, table) in itertools.product(METRICS, found.items()):
            key = {"row": row, "bench": bench, "predictor": predictor, "metric": metric}
            draws_R = draws.get((row, bench, predictor, metric))
            cells.append({**key, **_with_interval(_summary(table, metric), draws_R, level)})
    return cells


def compare_lines(
    lines: Sequence[Line], reference: Line, cells: Sequence[Record], draws: Draws, level: float
) -> list[Record]:
    """`differences` of statistics.json: each line minus the reference line, in the same resamples.

    `p` is the two-sided bootstrap p value; `p_corrected` is Holm's over the lines that have one, separately for
    each benchmark and metric. `draws` must hold the lines whose cells have a value.
    """
    by_key = {(cell["row"], cell["bench"], cell["predictor"], cell["metric"]): cell for cell in cells}
    benches = dict.fromkeys(cell["bench"] for cell in cells)
    records = []
    for bench, metric in itertools.product(benches, METRICS):
        family = []
        for line in lines:
            if line != reference:
                record = _line_difference((line, reference), bench, metric, by_key, draws, level)
                family.append({"line": line.label, "bench": bench, "metric": metric, **record})
        records += _corrected(family)
    return records


def rmse_gap(
    row: str, training_N: Array | None, own_N: Array | None, panel: Panel, bootstrap: Bootstrap
) -> tuple[list[Record], Record]:
    """`table3` of statistics.json for one row: RMSE on training CoTs, on own CoTs, and own - training.

    All three are over the training rows that have both predictions. None: this condition was not run, and the
    other one stands on all rows that it has. Every row (model) sees the same resamples.
    """
    given = {"training": training_N, "own": own_N}
    run_N = [predictions_N for predictions_N in given.values() if predictions_N is not None]
    used_N = np.isfinite(np.stack([panel.gold_N, *run_N])).all(axis=0)
    weights_RC = cluster_weights(panel.num_clusters, bootstrap.resamples, f"{bootstrap.seed}|table3")
    cells, draws = [], []
    for cots, predictions_N in given.items():
        if predictions_N is None:
            reason, error_N = f"no predictions of row {row} on {cots} CoTs", np.empty(0)
        else:
            reason, error_N = "no row has a prediction in every condition", (predictions_N - panel.gold_N)[used_N]
        cluster_N = panel.cluster_N[used_N][: len(error_N)]
        point, draws_R = _rmse(error_N, cluster_N, weights_RC)
        summary = {"value": point, "n": len(error_N), "reason": reason if point is None else None}
        cells.append({"row": row, "cots": cots, **_with_interval(summary, draws_R, bootstrap.level)})
        draws.append(draws_R)
    missing = dict.fromkeys(cell["reason"] for cell in cells if cell["value"] is None)
    if missing:
        return cells, {"row": row, **null_difference("; ".join(missing))}
    return cells, {"row": row, **difference(cells[::-1], draws[::-1], bootstrap.level)}


def mean_by_cluster(values_N: Array, group_ids: Sequence[str], bootstrap: Bootstrap) -> Record:
    """Mean of one number for each row, with an interval over resampled tasks; null with a reason without rows."""
    _, cluster_N = np.unique(np.asarray(group_ids, dtype=str), return_inverse=True)
    num_clusters = int(cluster_N.max(initial=-1)) + 1
    summary: Record = {"value": None, "n": len(values_N), "reason": "no row has a value"}
    if not num_clusters:
        return _with_interval(summary, None, bootstrap.level)
    weights_RC = cluster_weights(num_clusters, bootstrap.resamples, f"{bootstrap.seed}|mean")
    sums_C, sizes_C = _by_cluster(values_N, cluster_N, num_clusters), np.bincount(cluster_N, minlength=num_clusters)
    draws_R = np.asarray(weights_RC @ sums_C / (weights_RC @ sizes_C))
    return _with_interval({**summary, "value": float(np.mean(values_N)), "reason": None}, draws_R, bootstrap.level)


def annotator_ceiling(bench: str, gold_scores: Sequence[Sequence[float]]) -> list[Record]:
    """`ceiling` of statistics.json: how well one annotator agrees with the mean of the others, averaged.

    Args:
        bench: name of the benchmark, for the records.
        gold_scores: the scores of each row; position a is annotator a in every row.
    """
    counts = {len(scores) for scores in gold_scores}
    reason, by_annotator = _why_no_ceiling(counts), []
    for a in range(0 if reason else min(counts)):
        scores_NA = np.array(gold_scores, dtype=np.float64)
        found, undefined = correlations(scores_NA[:, a], np.delete(scores_NA, a, axis=1).mean(axis=1))
        by_annotator.append(found)
        reason = reason or (f"annotator {a + 1}: {undefined}" if undefined else None)
    return [
        {
            "bench": bench,
            "metric": metric,
            "value": None if reason else mean_and_sd([found[metric] for found in by_annotator])[0],
            "num_annotators": max(counts, default=0),
            "reason": reason,
        }
        for metric in CORRELATIONS
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the k-th smallest of m times m - k + 1, never decreasing, at most 1."""
    corrected, running = [0.0] * len(p_values), 0.0
    for k, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - k) * p_values[index]))
        corrected[index] = running
    return corrected


def _error_metrics(
    predicted_N: Array, gold_N: Array, cluster_N: Array, weights_CR: Array, values: Sequence[float]
) -> dict[str, Array]:
    """RMSE, MAE, bias, exact and kappa: functions of weighted sums over rows."""
    error_N = predicted_N - gold_N
    i_N, j_N = nearest_score(predicted_N, values), nearest_score(gold_N, values)
    per_row = [error_N**2, abs(error_N), error_N, i_N == j_N, (i_N - j_N) ** 2, i_N**2 + j_N**2, i_N, j_N]
    n_R, squared_R, absolute_R, signed_R, hits_R, *kappa_sums = (
        _by_cluster(x_N, cluster_N, len(weights_CR)) @ weights_CR for x_N in [np.ones(len(i_N)), *per_row]
    )
    return {
        "rmse": np.sqrt(squared_R / n_R),
        "mae": absolute_R / n_R,
        "bias": signed_R / n_R,
        "exact": hits_R / n_R,
        "qwk": quadratic_kappa(n_R, *kappa_sums),
    }


def _rmse(error_N: Array, cluster_N: Array, weights_RC: Array) -> tuple[float | None, Array]:
    """Root of the mean squared error, and the same in each resample (R,); None and NaN without rows."""
    num_clusters = weights_RC.shape[1]
    squared_R = weights_RC @ _by_cluster(error_N**2, cluster_N, num_clusters)
    with np.errstate(invalid="ignore"):
        draws_R = np.sqrt(squared_R / (weights_RC @ np.bincount(cluster_N, minlength=num_clusters)))
    return float(np.sqrt(np.mean(error_N**2))) if len(error_N) else None, np.asarray(draws_R)


def _pearson(predicted_N: Array, gold_N: Array, cluster_N: Array, weights_CR: Array) -> Array:
    """Pearson r from spread within clusters plus spread between them; raw sums of squares would cancel."""
    num_clusters = len(weights_CR)
    size_C = _by_cluster(np.ones(len(cluster_N)), cluster_N, num_clusters)
    rows_CR = weights_CR * size_C[:, None]

    def deviations(x_N: Array) -> tuple[Array, Array]:
        mean_C = _by_cluster(x_N, cluster_N, num_clusters) / np.maximum(size_C, 1)
        mean_R = mean_C @ rows_CR / rows_CR.sum(axis=0)
        return x_N - mean_C[cluster_N], mean_C[:, None] - mean_R

    def products(x: tuple[Array, Array], y: tuple[Array, Array]) -> Array:
        within_C = _by_cluster(x[0] * y[0], cluster_N, num_clusters)
        return np.asarray(within_C @ weights_CR + np.einsum("cr,cr,cr->r", rows_CR, x[1], y[1]))

    p, g = deviations(predicted_N), deviations(gold_N)
    r_R = products(p, g) / (np.sqrt(products(p, p)) * np.sqrt(products(g, g)))
    return np.asarray(np.clip(r_R, -1.0, 1.0))


def _rank_correlations(predicted_N: Array, gold_N: Array, cluster_N: Array, weights_CR: Array) -> dict[str, Array]:
    """Spearman rho and Kendall tau-b with the ranks and ties of each resample; all sums are exact integers."""
    p_N = np.unique(predicted_N, return_inverse=True)[1]
    g_N = np.unique(gold_N, return_inverse=True)[1]
    num_gold = int(g_N.max(initial=0)) + 1
    pairs_D, pair_N = np.unique(p_N * num_gold + g_N, return_inverse=True)
    codes = pairs_D // num_gold, pairs_D % num_gold
    pairs_by_cluster, comparisons = _indicators(pair_N, cluster_N, len(weights_CR)), _comparisons(*codes)
    step = max(1, _BLOCK // max(1, len(pairs_D)))
    blocks = [
        _rank_correlations_of_counts(*codes, pairs_by_cluster @ weights_CR[:, start : start + step], comparisons)
        for start in range(0, weights_CR.shape[1], step)
    ]
    return dict(zip(("spearman", "kendall"), np.concatenate(blocks, axis=1), strict=True))


def _rank_correlations_of_counts(
    p_D: Array, g_D: Array, pair_DR: Array, comparisons: Sequence[_Comparison]
) -> tuple[Array, Array]:
    """Both from how often each (prediction, gold) pair, as codes 0 .. V-1 of the sorted values, is in each resample."""
    p_VR, g_VR = (_indicators(code_D, np.arange(len(code_D)), len(code_D)) @ pair_DR for code_D in (p_D, g_D))
    n_R = pair_DR.sum(axis=0)

    def centred_midranks(counts_VR: Array) -> Array:
        return np.asarray(counts_VR.cumsum(axis=0) - (counts_VR - 1) / 2 - (n_R + 1) / 2)

    def untied_pairs(counts_VR: Array) -> Array:
        return np.asarray((n_R**2 - np.einsum("vr,vr->r", counts_VR, counts_VR)) / 2)

    rank_p_VR, rank_g_VR = centred_midranks(p_VR), centred_midranks(g_VR)
    covariance_R = np.einsum("dr,dr,dr->r", pair_DR, rank_p_VR[p_D], rank_g_VR[g_D])
    variances = [np.einsum("vr,vr,vr->r", c, r, r) for c, r in ((p_VR, rank_p_VR), (g_VR, rank_g_VR))]
    spearman_R = covariance_R / (np.sqrt(variances[0]) * np.sqrt(variances[1]))
    untied_R = np.sqrt(untied_pairs(p_VR)) * np.sqrt(untied_pairs(g_VR))
    return spearman_R, _concordance(pair_DR, comparisons) / untied_R


def _comparisons(p_D: Array, g_D: Array) -> list[_Comparison]:
    """All pairs of (prediction, gold) pairs that differ in gold, each once: at the first bit in which the golds differ.

    With the golds' higher bits as the leading digits, the lower ones with smaller predictions are neighbours.
    """
    num_predictions, found = int(p_D.max(initial=0)) + 1, []
    for bit in range(int(g_D.max(initial=0)).bit_length()):
        first_D = (g_D >> (bit + 1)) * num_predictions
        key_D = first_D + p_D
        order_D = np.argsort(key_D)
        is_higher_D = (g_D[order_D] >> bit & 1).astype(bool)
        lower, higher = order_D[~is_higher_D], order_D[is_higher_D]
        bounds = [first_D[higher], key_D[higher], key_D[higher] + 1, first_D[higher] + num_predictions]
        found.append(_Comparison(lower, higher, *np.searchsorted(key_D[lower], bounds)))
    return found


def _concordance(pair_DR: Array, comparisons: Sequence[_Comparison]) -> Array:
    """Concordant minus discordant pairs of rows of each resample (R,), from sums over sorted pairs."""
    total_R = np.zeros(pair_DR.shape[1])
    for lower, higher, first, smaller, not_larger, last in comparisons:
        below_DR = np.zeros((len(lower) + 1, pair_DR.shape[1]))
        np.cumsum(pair_DR[lower], axis=0, out=below_DR[1:])
        # Those with smaller predictions minus those with larger ones.
        balance_DR = below_DR[smaller] - below_DR[first] - below_DR[last] + below_DR[not_larger]
        total_R += np.einsum("dr,dr->r", pair_DR[higher], balance_DR)
    return total_R


def _indicators(code_N: Array, column_N: Array, num_columns: int) -> Any:
    """Sparse (V, columns): how many of N entries have each code 0 .. V-1 and each column."""
    shape = (int(code_N.max(initial=-1)) + 1, num_columns)
    return sparse.csr_array((np.ones(len(code_N)), (code_N, column_N)), shape=shape)


def _by_cluster(x_N: Array, cluster_N: Array, num_clusters: int) -> Array:
    """Sum over the rows of each cluster (C,)."""
    return np.asarray(np.bincount(cluster_N, weights=x_N, minlength=num_clusters))


def _is_constant(x_N: Array, cluster_N: Array, weights_CR: Array) -> Array:
    """Whether the rows of each resample (R,) are equal up to rounding, or there are none."""
    low_C, high_C = np.full(len(weights_CR), np.inf), np.full(len(weights_CR), -np.inf)
    np.minimum.at(low_C, cluster_N, x_N)
    np.maximum.at(high_C, cluster_N, x_N)
    drawn_CR = weights_CR > 0
    low_R = np.where(drawn_CR, low_C[:, None], np.inf).min(axis=0)
    high_R = np.where(drawn_CR, high_C[:, None], -np.inf).max(axis=0)
    return np.asarray(high_R - low_R <= CONSTANT)


def _predictions(runs: Sequence[Run]) -> dict[Seeds, list[float]]:
    found = {(run.training_seed, run.inference_seed): run.predictions_N.tolist() for run in runs}
    assert len(found) == len(runs), "two runs of one row have the same seeds"
    return found


def _summary(table: Table, metric: str) -> Record:
    """One metric of one row on one benchmark or on their mean, without its interval."""
    cell = table.cells[metric]
    spreads = {"sd_training": cell.sd_training, "sd_inference": cell.sd_inference}
    reason = "; ".join(cell.reasons) or None
    return {"value": cell.value, **spreads, "n": table.n, "n_ok": table.n_ok, "reason": reason}


def _with_interval(summary: Record, draws_R: Array | None, level: float) -> Record:
    """The summary with `low`, `high` and `num_undefined`; these are null where the value is, or without draws."""
    interval = _interval(None if summary["value"] is None else draws_R, level)
    return {
        **summary,
        "low": interval.low,
        "high": interval.high,
        "num_undefined": interval.num_undefined,
        "reason": summary["reason"] or interval.reason,
    }


def _interval(draws_R: Array | None, level: float) -> _Interval:
    """Percentile interval over the resamples where the statistic is defined, if those are at least half."""
    if draws_R is None:
        return _Interval(None, None, None, None)
    defined = draws_R[np.isfinite(draws_R)]
    num_undefined = len(draws_R) - len(defined)
    if 2 * num_undefined > len(draws_R):
        reason = f"no interval: undefined in {num_undefined} of {len(draws_R)} resamples"
        return _Interval(None, None, num_undefined, reason)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return _Interval(float(low), float(high), num_undefined, None)


def _line_difference(
    pair: tuple[Line, Line],
    bench: str,
    metric: str,
    by_key: Mapping[tuple[str, str, str, str], Record],
    draws: Draws,
    level: float,
) -> Record:
    """The first line minus the second in one metric on one benchmark, or why there is no difference."""
    keys = [(line.row, bench, line.predictor, metric) for line in pair]
    cells = [by_key[key] for key in keys]
    missing = [f"{line.label}: {c['reason']}" for line, c in zip(pair, cells, strict=True) if c["value"] is None]
    if missing:
        return null_difference("; ".join(missing))
    return difference(cells, [draws[key] for key in keys], level)


def difference(cells: Sequence[Record], draws: Sequence[Array], level: float) -> Record:
    """First minus second of two cells that have values: value, paired interval and p."""
    difference_R = draws[0] - draws[1]
    record = {"value": cells[0]["value"] - cells[1]["value"], "reason": None}
    record = _with_interval(record, difference_R, level)
    return {**record, "p": None if record["low"] is None else _p_value(difference_R)}


def null_difference(reason: str) -> Record:
    """A difference that is not there, and why."""
    return {**dict.fromkeys(("value", "low", "high", "num_undefined", "p")), "reason": reason}


def _p_value(difference_R: Array) -> float:
    """Two-sided: twice the smaller share of resamples on one side of 0, each counted with one more; at most 1."""
    defined = difference_R[np.isfinite(difference_R)]
    smaller = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(defined) + 1))


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
