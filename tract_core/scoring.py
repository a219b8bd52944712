"""Predictors over the predictions table: from the probabilities of each CoT to one number for each row.

A predictor reads one CoT's probabilities; with K CoTs its values are averaged (section 3.3). Rows whose CoT
failed count as unscored or are scored and flagged, as `score.on_truncated` says; they are never dropped.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tract_core import metrics
from tract_core.config import Score
from tract_core.scale import ScoreScale
from tract_core.tables import Row, count_statuses


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
SAMPLED = "sampled"
"""The predictor that is not a function of the probabilities: the score token drawn by the engine."""


def spread_over_scale(probs_Y: Sequence[float], values_Y: Sequence[float]) -> float:
    """Standard deviation of the (renormalised) distribution over Y, in units of the scale."""
    p = np.asarray(probs_Y) / np.sum(probs_Y)
    values = np.asarray(values_Y)
    return float(np.sqrt(np.dot(p, (values - np.dot(p, values)) ** 2)))


def usable(row: Mapping[str, Any], score: Score) -> bool:
    """Whether a CoT's reading counts: `ok` always, other CoTs with a reading under `score_and_flag`."""
    return row["probs"] is not None and (row["status"] == "ok" or score.on_truncated == "score_and_flag")


def predict(row: Mapping[str, Any], predictor: str, scale: ScoreScale, score: Score) -> float | None:
    """One CoT's prediction in units of the scale, or None."""
    if not usable(row, score):
        return None
    if predictor == SAMPLED:
        drawn: float | None = row["sampled_score"]
        return drawn
    return PREDICTORS[predictor](row["probs"], scale.values)


def average(predictions: Sequence[float | None]) -> float | None:
    """Mean over the K CoTs that have a prediction; None where none has."""
    present = [value for value in predictions if value is not None]
    return statistics.fmean(present) if present else None


def evaluate(rows: Sequence[Row], scale: ScoreScale, score: Score) -> dict[str, Any]:
    """The metrics of one benchmark and one model.

    Each predictor is evaluated for each inference seed (K CoTs averaged for each example), then averaged
    over seeds. `n` counts examples, `n_ok` those with a prediction, the mean over seeds.
    """
    seeds = sorted({row["run_seed"] for row in rows})
    result: dict[str, Any] = {name: _one_predictor(rows, name, seeds, scale, score) for name in [*PREDICTORS, SAMPLED]}
    masses = [row["label_mass"] for row in rows if row["label_mass"] is not None]
    return {
        **result,
        "label_mass": float(np.median(masses)) if masses else None,
        "cots": {"n": len(rows), **count_statuses(rows)},
        "num_seeds": len(seeds),
        "num_samples": len({row["k"] for row in rows}),
    }


def describe(bench: str, result: Mapping[str, Any]) -> str:
    """One line for the stage's output."""
    rail_result = result["rail"]
    numbers = ", ".join(
        f"{name} {'undefined' if rail_result[name] is None else format(rail_result[name], '.3f')}"
        for name in ("pearson", "spearman", "kendall", "rmse", "mae")
    )
    reason = f" ({rail_result['undefined']})" if "undefined" in rail_result else ""
    return f"{bench}: {numbers}{reason}; n {rail_result['n']}, n_ok {rail_result['n_ok']:g}"


def scatter(rows: Sequence[Row], scale: ScoreScale, score: Score) -> list[dict[str, Any]]:
    """Gold and the expected score of each example (all seeds and CoTs averaged), for a plot."""
    groups = _by_example(rows)
    points = []
    for (_, example), group in sorted(groups.items()):
        value = average([predict(row, "rail", scale, score) for row in group])
        points.append({"id": example, "gold": group[0]["gold"], "rail": value})
    return points


def _one_predictor(
    rows: Sequence[Row], predictor: str, seeds: Sequence[int], scale: ScoreScale, score: Score
) -> dict[str, Any]:
    runs = []
    for seed in seeds:
        groups = _by_example([row for row in rows if row["run_seed"] == seed])
        predictions = [average([predict(row, predictor, scale, score) for row in group]) for group in groups.values()]
        runs.append(metrics.agreement(predictions, [group[0]["gold"] for group in groups.values()], scale.values))
    result: dict[str, Any] = {}
    for name in ("pearson", "spearman", "kendall", "rmse", "mae"):
        result[name], result[f"{name}_sd"] = metrics.mean_and_sd([run[name] for run in runs])
    result["n"] = runs[0]["n"]
    result["n_ok"] = statistics.fmean(run["n_ok"] for run in runs)
    reasons = sorted({run["undefined"] for run in runs if run["undefined"]})
    return {**result, **({"undefined": "; ".join(reasons)} if reasons else {})}


def _by_example(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[(row["source"], row["id"])].append(row)
    return groups
