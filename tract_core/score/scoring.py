"""Predictors over the predictions table: from the probabilities of each CoT to one number for each example.

A predictor reads one CoT's probabilities; with K CoTs its values are averaged (sections 3.2 and 6.4). Examples
whose CoTs failed count as unscored or are scored and flagged, as `score.on_truncated` says; they are never dropped.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record, count_statuses
from tract_core.score import metrics
from tract_core.score.paper_lines import MEAN


def mode(probs_Y: Sequence[float], values_Y: Sequence[float]) -> float:
    """The most probable score (the smallest of equals): argmax over Y."""
    return float(values_Y[int(np.argmax(probs_Y))])


def median(probs_Y: Sequence[float], values_Y: Sequence[float]) -> float:
    """The smallest score at which the cumulative probability over Y reaches one half."""
    cumulative = np.cumsum(probs_Y)
    return float(values_Y[int(np.searchsorted(cumulative, cumulative[-1] / 2))])


def rail(probs_Y: Sequence[float], values_Y: Sequence[float]) -> float:
    """Eqs. 1 and 3: the expected score with full-vocabulary probabilities."""
    return float(np.dot(probs_Y, values_Y))


def rail_renormalized(probs_Y: Sequence[float], values_Y: Sequence[float]) -> float:
    """The expected score with probabilities renormalised over Y."""
    return rail(probs_Y, values_Y) / float(np.sum(probs_Y))


PREDICTORS: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "rail": rail,
    "rail_renormalized": rail_renormalized,
    "mode": mode,
    "median": median,
}
LOW_MASS = 0.95
"""Below this median label mass `describe` warns."""
SAMPLED = "sampled"
"""The predictor that is not a function of the probabilities: the score token drawn by the engine."""


def spread_over_scale(probs_Y: Sequence[float], values_Y: Sequence[float]) -> float:
    """Standard deviation of the (renormalised) distribution over Y, in units of the scale."""
    p = np.asarray(probs_Y) / np.sum(probs_Y)
    values = np.asarray(values_Y)
    return float(np.sqrt(np.dot(p, (values - np.dot(p, values)) ** 2)))


def usable(cot: Mapping[str, Any], score: Score) -> bool:
    """Whether a CoT's score counts, if it has one: `ok` always, other CoTs under `score_and_flag`."""
    return cot["status"] == "ok" or score.on_truncated == "score_and_flag"


def probabilities(cot: Mapping[str, Any]) -> list[float] | None:
    """A CoT's probabilities over Y; None where it has none, or NaN because the model's logits were not finite."""
    probs: list[float] | None = cot.get("probs")
    return probs if probs is not None and math.isfinite(sum(probs)) else None


def median_mass(cots: Iterable[Mapping[str, Any]]) -> float | None:
    """Median probability of all scores together, over the CoTs that have a score."""
    masses = [sum(probs) for cot in cots if (probs := probabilities(cot)) is not None]
    return float(np.median(masses)) if masses else None


def predict(cot: Mapping[str, Any], predictor: str, scale: ScoreScale, score: Score) -> float | None:
    """One CoT's prediction in units of the scale, or None."""
    probs = probabilities(cot)
    if not usable(cot, score) or (probs is None and cot["probs"] is not None):
        return None
    if predictor == SAMPLED:
        sampled: float | None = cot["sampled_score"]
        return sampled
    # Without any mass on the scores the expected score is 0 and everything else undefined.
    if probs is None or (predictor != "rail" and not any(probs)):
        return None
    return PREDICTORS[predictor](probs, scale.values)


def average(predictions: Sequence[float | None]) -> float | None:
    """Mean over the K CoTs that have a prediction; None where none has."""
    present = [value for value in predictions if value is not None]
    return statistics.fmean(present) if present else None


Runs = Mapping[int | None, Sequence[Record]]
"""Training seed -> the predictions table; None for a judge that was not trained here."""


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
    gold = {cot["id"]: cot["gold"] for cots in _of_benchmark(runs, bench).values() for cot in cots}
    found = by_run(runs, bench, predictor, scale, score)
    predictions = {seeds: [by_id.get(example) for example in gold] for seeds, by_id in found.items()}
    return metrics.over_runs(predictions, list(gold.values()), scale.values)


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
    runs: Runs, bench: str, predictor: str, scale: ScoreScale, score: Score
) -> dict[tuple[int | None, int], dict[str, float | None]]:
    """(training seed, inference seed) -> example id -> prediction, K CoTs averaged, for one benchmark."""
    return {
        (training, inference): {
            example: average([predict(cot, predictor, scale, score) for cot in group])
            for (_, example), group in _by_example([cot for cot in cots if cot["run_seed"] == inference]).items()
        }
        for training, cots in _of_benchmark(runs, bench).items()
        for inference in sorted({cot["run_seed"] for cot in cots})
    }


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
    """Gold and the expected score of each example (all seeds and CoTs averaged), for a plot."""
    points = []
    for bench in benches:
        cots = [cot for run in _of_benchmark(runs, bench).values() for cot in run]
        for (_, example), group in sorted(_by_example(cots).items()):
            value = average([predict(cot, "rail", scale, score) for cot in group])
            points.append({"bench": bench, "id": example, "gold": group[0]["gold"], "rail": value})
    return points


def _of_benchmark(runs: Runs, bench: str) -> dict[int | None, list[Record]]:
    return {seed: [cot for cot in cots if cot["source"] == bench] for seed, cots in runs.items()}


def _about(runs: Mapping[int | None, Sequence[Record]]) -> dict[str, Any]:
    """What a metrics file says of one benchmark whatever the predictor."""
    cots = [cot for run in runs.values() for cot in run]
    return {
        "label_mass": median_mass(cots),
        "cots": {"n": len(cots), **count_statuses(cots)},
        "num_training_seeds": len(runs),
        "num_inference_seeds": len({cot["run_seed"] for cot in cots}),
        "num_samples": len({cot["k"] for cot in cots}),
    }


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


def _by_example(cots: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for cot in cots:
        groups[(cot["source"], cot["id"])].append(cot)
    return groups
