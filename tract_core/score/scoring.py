"""Predictors over the predictions table: from the probabilities of each CoT to one number for each example.

A predictor reads one CoT's probabilities; with K CoTs its values are averaged (sections 3.2 and 6.4). Examples
whose CoTs failed count as unscored or are scored and flagged, as `score.on_truncated` says; they are never dropped.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import STATUSES
from tract_core.score import draws, metrics
from tract_core.score.draws import Array, Draws
from tract_core.score.paper_lines import MEAN


def mode(probs_NY: ArrayLike, values_Y: Sequence[float]) -> Array:
    """The most probable score (the smallest of equals): argmax over Y."""
    return np.asarray(np.asarray(values_Y, dtype=np.float64)[np.argmax(probs_NY, axis=-1)])


def median(probs_NY: ArrayLike, values_Y: Sequence[float]) -> Array:
    """The smallest score at which the cumulative probability over Y reaches one half."""
    cumulative_NY = np.cumsum(probs_NY, axis=-1)
    below_NY = cumulative_NY < cumulative_NY[..., -1:] / 2
    return np.asarray(np.asarray(values_Y, dtype=np.float64)[below_NY.sum(axis=-1)])


def rail(probs_NY: ArrayLike, values_Y: Sequence[float]) -> Array:
    """Eqs. 1 and 3: the expected score with full-vocabulary probabilities."""
    return np.asarray((np.asarray(probs_NY) * np.asarray(values_Y)).sum(axis=-1))


def rail_renormalized(probs_NY: ArrayLike, values_Y: Sequence[float]) -> Array:
    """The expected score with probabilities renormalised over Y."""
    return np.asarray(rail(probs_NY, values_Y) / np.sum(probs_NY, axis=-1))


PREDICTORS: dict[str, Callable[[ArrayLike, Sequence[float]], Array]] = {
    "rail": rail,
    "rail_renormalized": rail_renormalized,
    "mode": mode,
    "median": median,
}
"""Each takes the probabilities of one draw (Y,) or of N (N, Y)."""
LOW_MASS = 0.95
"""Below this median label mass `describe` warns."""
SAMPLED = "sampled"
"""The predictor that is not a function of the probabilities: the score token drawn by the engine."""


def spread_over_scale(probs_NY: ArrayLike, values_Y: Sequence[float]) -> Array:
    """Standard deviation of the (renormalised) distribution over Y, in units of the scale."""
    p_NY, values = np.asarray(probs_NY) / np.sum(probs_NY, axis=-1, keepdims=True), np.asarray(values_Y)
    distance_NY = values - rail(p_NY, values_Y)[..., None]
    return np.asarray(np.sqrt((p_NY * distance_NY**2).sum(axis=-1)))


def usable(cot: Mapping[str, Any], score: Score) -> bool:
    """Whether a CoT's score counts, if it has one: `ok` always, other CoTs under `score_and_flag`."""
    return cot["status"] == "ok" or score.on_truncated == "score_and_flag"


def probabilities(cot: Mapping[str, Any]) -> list[float] | None:
    """A CoT's probabilities over Y; None where it has none, or NaN because the model's logits were not finite."""
    probs: list[float] | None = cot.get("probs")
    return probs if probs is not None and math.isfinite(sum(probs)) else None


def usable_of(drawn: Draws, score: Score) -> Array:
    """The same of each draw (N,)."""
    return np.asarray(drawn.are_ok() | (score.on_truncated == "score_and_flag"))


def median_mass(drawn: Draws) -> float | None:
    """Median probability of all scores together, over the draws that have probabilities."""
    return _median(drawn.probs_NY[drawn.read_N].sum(axis=1))


def _median(masses_N: Array) -> float | None:
    return float(np.median(masses_N)) if len(masses_N) else None


def predictions_of(drawn: Draws, predictor: str, scale: ScoreScale, score: Score) -> Array:
    """Each draw's prediction (N,) in units of the scale; NaN where it has none."""
    usable_N = usable_of(drawn, score) & ~drawn.broken_N
    if predictor == SAMPLED:
        return np.where(usable_N, drawn.sampled_N, np.nan)
    usable_N &= drawn.read_N
    if not usable_N.any():  # then there may be no column for any score
        return np.full(len(drawn), np.nan)
    if predictor != "rail":  # without any mass on the scores the expected score is 0 and everything else undefined
        usable_N &= drawn.probs_NY.any(axis=1)
    found_N = np.full(len(drawn), np.nan)
    found_N[usable_N] = PREDICTORS[predictor](drawn.probs_NY[usable_N], scale.values)
    return found_N


def average(values: Iterable[float]) -> float | None:
    """Mean over those that are not NaN, as one example's over its K CoTs; None where there is none."""
    present = [value for value in values if not math.isnan(value)]
    return statistics.fmean(present) if present else None


Runs = Mapping[int | None, Draws]
"""Training seed -> what the judge said; None for a judge that was not trained here."""


def evaluate(runs: Runs, benches: Sequence[str], scale: ScoreScale, score: Score) -> dict[str, Any]:
    """The metrics of one row of the paper's tables.

    Each predictor is evaluated for each training seed and inference seed (K CoTs averaged for each example),
    then averaged; `_sd_training` and `_sd_inference` keep the two kinds of spread apart (`metrics.over_runs`).

    Returns:
        For each benchmark the predictors' metrics, the median label mass and the CoTs' statuses; under `mean`
        each predictor's mean over the benchmarks, null where one is undefined.
    """
    result: dict[str, Any] = {bench: _about(_of_benchmark(runs, bench)) for bench in benches}
    means = {}
    for predictor in (*PREDICTORS, SAMPLED):
        found = {bench: _table(runs, bench, predictor, scale, score) for bench in benches}
        for bench in benches:
            result[bench][predictor] = _view(found[bench])
        means[predictor] = _mean_view(metrics.over_benches(found))
    return {**result, MEAN: means}


def _table(runs: Runs, bench: str, predictor: str, scale: ScoreScale, score: Score) -> metrics.Table:
    """One predictor's numbers on one benchmark, over the examples that stand in the predictions."""
    gold = _gold(runs, bench)
    found = by_run(runs, bench, predictor, scale, score, list(gold))
    return metrics.over_runs(found, list(gold.values()), scale.values)


def headline(row: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers that `dvc metrics diff` and `dvc exp show` list, under the row's name.

    `rail` and `sampled`: r and RMSE, the mean over the benchmarks; `bad_cots`: the share of CoTs that are not `ok`.
    """
    counts = [found["cots"] for bench, found in result.items() if bench != MEAN]
    total = sum(count["n"] for count in counts)
    bad = total - sum(count["ok"] for count in counts)
    read = {name: {metric: result[MEAN][name][metric] for metric in ("pearson", "rmse")} for name in ("rail", SAMPLED)}
    return {row: {**read, "bad_cots": bad / total if total else None}}


def by_run(
    runs: Runs, bench: str, predictor: str, scale: ScoreScale, score: Score, ids: Sequence[str]
) -> dict[metrics.Seeds, Array]:
    """(training seed, inference seed) -> one prediction for each id (E,) of a benchmark, K CoTs averaged; NaN: none."""
    found = {}
    for training, drawn in _of_benchmark(runs, bench).items():
        values_N = predictions_of(drawn, predictor, scale, score)
        for inference in np.unique(drawn.run_seed_N).tolist():
            of_run_N = np.where(drawn.run_seed_N == inference, values_N, np.nan)
            found[training, inference] = draws.mean(*drawn.sums(of_run_N, ids))
    return found


def describe(row: str, result: Mapping[str, Any]) -> str:
    """For the stage's output: RAIL on the only benchmark, or its mean over several; and low label mass."""
    benches = [bench for bench in result if bench != MEAN]
    place = f" on {benches[0]}" if len(benches) == 1 else f", mean over {len(benches)} benchmarks"
    found = result[benches[0] if len(benches) == 1 else MEAN]["rail"]
    return f"{row}, expected score against gold{place}: {_describe_rail(found)}" + "".join(
        f"\n  warning: {bench}: the scores together have a median probability of {mass:.3f}, below {LOW_MASS}; the "
        "rest pulls the expected score towards 0, as it does without training: train longer, or read rail_renormalized"
        for bench in benches
        if (mass := result[bench]["label_mass"]) is not None and mass < LOW_MASS
    )


def _describe_rail(found: Mapping[str, Any]) -> str:
    numbers = ", ".join(
        f"{name} {'undefined' if found[name] is None else format(found[name], '.3f')}"
        for name in ("pearson", "spearman", "kendall", "rmse", "mae")
    )
    reason = f" ({found['undefined']})" if "undefined" in found else ""
    return f"{numbers}{reason}; {found['n_ok']:g} of {found['n']} examples have a score"


def scatter(runs: Runs, benches: Sequence[str], scale: ScoreScale, score: Score) -> list[dict[str, Any]]:
    """Gold and the expected score of each example (all seeds and CoTs averaged), for a plot; None: it has no score."""
    points = []
    for bench in benches:
        gold = dict(sorted(_gold(runs, bench).items()))
        parts = [
            drawn.sums(predictions_of(drawn, "rail", scale, score), list(gold))
            for drawn in _of_benchmark(runs, bench).values()
        ]
        sums_E, counts_E = (sum(part) for part in zip(*parts, strict=True)) if parts else (np.zeros(0), np.zeros(0))
        means = draws.mean(sums_E, counts_E).tolist()
        points += [
            {"bench": bench, "id": name, "gold": value, "rail": None if math.isnan(mean) else mean}
            for (name, value), mean in zip(gold.items(), means, strict=True)
        ]
    return points


def _of_benchmark(runs: Runs, bench: str) -> dict[int | None, Draws]:
    return {seed: drawn.of_source(bench) for seed, drawn in runs.items()}


def _gold(runs: Runs, bench: str) -> dict[str, float]:
    """Id -> gold score of the examples of a benchmark that stand in some run."""
    found = dict[str, float]()
    for drawn in _of_benchmark(runs, bench).values():
        found |= drawn.gold()
    return found


def _about(runs: Mapping[int | None, Draws]) -> dict[str, Any]:
    """What a metrics file says of one benchmark whatever the predictor."""
    masses = [drawn.probs_NY[drawn.read_N].sum(axis=1) for drawn in runs.values()]
    statuses = Counter[str]()
    for drawn in runs.values():
        statuses.update(drawn.statuses())
    return {
        "label_mass": _median(np.concatenate(masses)) if masses else None,
        "cots": {"n": sum(map(len, runs.values())), **{status: statuses[status] for status in STATUSES}},
        "num_training_seeds": len(runs),
        "num_inference_seeds": _how_many(drawn.run_seed_N for drawn in runs.values()),
        "num_samples": _how_many(drawn.k_N for drawn in runs.values()),
    }


def _how_many(columns: Iterable[Array]) -> int:
    """Different numbers in all of them."""
    return len(set[int]().union(*(np.unique(column).tolist() for column in columns)))


def _view(found: metrics.Table) -> dict[str, Any]:
    """A table as a metrics file has it: sds beside the values, and why the correlations are undefined."""
    spreads = {
        f"{name}_{spread}": getattr(cell, spread)
        for name, cell in found.cells.items()
        for spread in ("sd_training", "sd_inference")
    }
    reasons = sorted(found.cells["pearson"].reasons)
    return {**_mean_view(found), **spreads, **({"undefined": "; ".join(reasons)} if reasons else {})}


def _mean_view(found: metrics.Table) -> dict[str, Any]:
    return {**{name: cell.value for name, cell in found.cells.items()}, "n": found.n, "n_ok": found.n_ok}
