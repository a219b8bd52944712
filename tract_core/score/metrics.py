"""How well predictions agree with gold. Degenerate input gives null with a reason, never a made-up number."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

# Below this spread the rounding of float64 decides the correlation, not the judge: 1e-14 * 5 is 1 ulp.
CONSTANT = 1e-12
CORRELATIONS = ("pearson", "spearman", "kendall")
METRICS = (*CORRELATIONS, "rmse", "mae", "bias", "exact", "qwk", "predicted_sd")
REPORTED = (*METRICS, "pearson_imputed")
"""What `agreement` says of one run, and a Table of all of them."""

Seeds = tuple[int | None, int]
"""Training seed (None: nothing was trained) and inference seed of one run."""


class Cell(NamedTuple):
    """One metric over runs: None where one of them leaves it undefined, and `reasons` why."""

    value: float | None
    sd_training: float | None
    sd_inference: float | None
    reasons: tuple[str, ...]
    by_seeds: Mapping[Seeds, float | None]


class Table(NamedTuple):
    """The numbers of one judge on one benchmark, or on their mean."""

    cells: Mapping[str, Cell]
    n: int
    """Examples."""
    n_ok: float
    """Examples with a prediction, mean over the runs."""


def agreement(predictions: ArrayLike, gold: ArrayLike, values: Sequence[float]) -> dict[str, Any]:
    """All metrics of METRICS over the examples that have a prediction, and Pearson r with the others imputed.

    `bias` is the mean of prediction - gold, `predicted_sd` the standard deviation of the predictions (over N). For
    `exact` (share of hits) and `qwk` (quadratic weighted kappa) both sides are rounded to the scale
    (`nearest_score`). In `pearson_imputed` an example without a prediction gets the middle of the scale; it equals
    `pearson` where every example has one.

    Args:
        predictions: one number for each example, NaN (or None in a list) where there is none.
        gold: the gold score of each example.
        values: the scores of Y, increasing.

    Returns:
        The numbers (None where undefined), `n`, `n_ok` (examples used), `undefined` (why the correlations are,
        or None) and `reasons` (metric -> why it is undefined).
    """
    predicted_N, gold_N = np.array(predictions, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if predicted_N.shape != gold_N.shape:
        raise ValueError(f"{len(predicted_N)} predictions for {len(gold_N)} gold scores")
    ok_N = np.isfinite(predicted_N)
    result, undefined = correlations(predicted_N[ok_N], gold_N[ok_N])
    result |= _errors(predicted_N[ok_N], gold_N[ok_N], values)
    imputed, not_imputed = result, undefined
    if not ok_N.all():
        imputed, not_imputed = correlations(np.where(ok_N, predicted_N, (values[0] + values[-1]) / 2), gold_N)
    result["pearson_imputed"] = imputed["pearson"]
    why = dict.fromkeys(CORRELATIONS, undefined) | {"pearson_imputed": not_imputed}
    why["qwk"] = "all predictions and gold scores round to one score" if ok_N.any() else None
    reasons = {name: why.get(name) or "no row has a prediction" for name, number in result.items() if number is None}
    return {**result, "n": len(gold_N), "n_ok": int(ok_N.sum()), "undefined": undefined, "reasons": reasons}


def over_runs(
    predictions: Mapping[Seeds, ArrayLike],
    gold: ArrayLike,
    values: Sequence[float],
    absent: str = "no predictions",
) -> Table:
    """The metrics of REPORTED, each the mean over the runs of one judge on one benchmark.

    `sd_training` is the sd over training seeds of the mean over inference seeds; `sd_inference` the mean over
    training seeds of the sd over inference seeds.

    Args:
        predictions: for each run one number for each example, NaN (or None in a list) where there is none.
        gold: the gold score of each example.
        values: the scores of Y, increasing.
        absent: the reason where there are no runs.
    """
    results = {seeds: agreement(predicted, gold, values) for seeds, predicted in predictions.items()}
    cells = {}
    for name in REPORTED:
        reasons = [result["reasons"][name] for result in results.values() if name in result["reasons"]]
        by_seeds = {seeds: result[name] for seeds, result in results.items()}
        cells[name] = _cell(by_seeds, reasons if results else [absent])
    n_ok, _ = mean_and_sd([result["n_ok"] for result in results.values()])
    return Table(cells, np.size(gold), n_ok or 0.0)


def over_benches(tables: Mapping[str, Table]) -> Table:
    """The mean over benchmarks, each with equal weight; sds only where all benchmarks have the same seeds."""
    cells = {}
    for name in REPORTED:
        found = {bench: table.cells[name] for bench, table in tables.items()}
        first, *others = [cell.by_seeds for cell in found.values()]
        common = first if all(other.keys() == first.keys() for other in others) else ()
        by_seeds = {seeds: mean_and_sd([cell.by_seeds[seeds] for cell in found.values()])[0] for seeds in common}
        reasons = [f"{bench}: {'; '.join(cell.reasons)}" for bench, cell in found.items() if cell.value is None]
        value, _ = mean_and_sd([cell.value for cell in found.values()])
        cells[name] = _cell(by_seeds, reasons)._replace(value=value)
    return Table(cells, sum(table.n for table in tables.values()), sum(table.n_ok for table in tables.values()))


def _cell(by_seeds: Mapping[Seeds, float | None], reasons: Sequence[str]) -> Cell:
    """Mean and both spreads of numbers by (training seed, inference seed)."""
    groups: dict[int | None, list[float | None]] = {}
    for (training_seed, _), number in by_seeds.items():
        groups.setdefault(training_seed, []).append(number)
    lines = [mean_and_sd(group) for group in groups.values()]
    return Cell(
        value=mean_and_sd(list(by_seeds.values()))[0],
        sd_training=mean_and_sd([mean for mean, _ in lines])[1],
        sd_inference=mean_and_sd([sd for _, sd in lines])[0],
        reasons=tuple(dict.fromkeys(reasons)),
        by_seeds=by_seeds,
    )


def correlations(first: ArrayLike, second: ArrayLike) -> tuple[dict[str, float | None], str | None]:
    """Pearson r, Spearman rho and Kendall tau-b of two equally long lists; None and the reason where undefined."""
    reason = _why_undefined(np.asarray(first), np.asarray(second))
    functions: dict[str, Callable[..., Any]] = {
        "pearson": stats.pearsonr,
        "spearman": stats.spearmanr,
        "kendall": stats.kendalltau,
    }
    return {n: None if reason else float(f(first, second).statistic) for n, f in functions.items()}, reason


def nearest_score(numbers: ArrayLike, values: Sequence[float]) -> NDArray[np.int64]:
    """Position in Y of the score nearest to each number; of two equally near ones the lower."""
    scores = np.asarray(values, dtype=np.float64)
    return np.searchsorted((scores[1:] + scores[:-1]) / 2, np.asarray(numbers), side="left")


def quadratic_kappa(n: Any, disagreement: Any, squares: Any, first: Any, second: Any) -> Any:
    """Quadratic weighted kappa from sums over n pairs of positions (i, j) in Y; numbers or arrays.

    1 - n sum (i-j)^2 / (n sum (i^2 + j^2) - 2 sum i sum j), the usual 1 - observed / expected disagreement
    with weights (i-j)^2 (Cohen 1968). 0 / 0 where all i and j are equal.
    """
    return 1 - n * disagreement / (n * squares - 2 * first * second)


def mean_and_sd(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where a value is missing or (for the sd) there is only one."""
    if any(value is None for value in values) or not values:
        return None, None
    numbers = np.array(values, dtype=np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None


def _errors(predicted_N: Any, gold_N: Any, values: Sequence[float]) -> dict[str, float | None]:
    """The metrics that need no spread, and kappa."""
    if not len(predicted_N):
        return dict.fromkeys(("rmse", "mae", "bias", "exact", "qwk", "predicted_sd"))
    errors_N = predicted_N - gold_N
    i_N, j_N = nearest_score(predicted_N, values), nearest_score(gold_N, values)
    one_score = bool(np.all(i_N == i_N[0]) and np.all(j_N == i_N[0]))
    sums = ((i_N - j_N) ** 2).sum(), (i_N**2 + j_N**2).sum(), i_N.sum(), j_N.sum()
    return {
        "rmse": float(np.sqrt(np.mean(errors_N**2))),
        "mae": float(np.mean(np.abs(errors_N))),
        "bias": float(np.mean(errors_N)),
        "exact": float(np.mean(i_N == j_N)),
        "qwk": None if one_score else float(quadratic_kappa(len(i_N), *sums)),
        "predicted_sd": float(np.std(predicted_N)),
    }


def _why_undefined(predicted: Any, expected: Any) -> str | None:
    """Why correlations are undefined, or None."""
    if len(predicted) < 2:
        return f"correlation needs 2 rows with a prediction, got {len(predicted)}"
    for name, values in (("predictions", predicted), ("gold scores", expected)):
        if np.ptp(values) <= CONSTANT:
            return f"all {name} are equal"
    return None
