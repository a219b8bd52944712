"""Intervals around a score that hold the gold score of a new row with a chosen probability: split conformal prediction.

Of each task one judged row with gold is taken; sigma is the spread of the judge's own distribution over the scale, so
that a judge that is unsure gets a wider interval. An interval goes from score - factor * sigma to score + factor *
sigma, and outward from there to the next scores of the scale; the residual of a row is the least factor with which its
interval holds its gold score. Of n residuals the ceil((n + 1) * level)-th smallest is a factor whose interval holds the
gold score of a new row with a probability of at least `level` (Vovk et al. 2005; Lei et al. 2018; nested sets: Gupta et
al. 2022). With |gold - score| / sigma in place of it, snapping outward would widen intervals far beyond their level.

That asks for exchangeability: the new row must come as the rated ones came, that is, its task is drawn from the same
kind of tasks, judged by the same judge in the same way (prompt, number of CoTs, temperature), and gold means what it
meant. It holds for the first row of a task that one looks at, on average over tasks and over calibrations: not for one
kind of task alone, not for all replies to one question at once, and not after the questions or the raters changed.
Rows of one task are not exchangeable with those of others, which is why each task counts once.

Shapes: N rows, Y scores of the scale.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tract_core.base.errors import UserError

Array = NDArray[Any]
_FLOOR = 0.25
"""Of the scale's smallest step: a judge that is sure and wrong must not have an endless residual."""


def sigma(sds_N: Array, values: Sequence[float]) -> Array:
    """The spread by which residuals are divided, in units of the scale.

    Args:
        sds_N: standard deviation of each verdict's distribution over the scale.
        values: Y, increasing.
    """
    return np.asarray(np.maximum(sds_N, _FLOOR * np.diff(values).min()))


def residuals(gold_N: Array, scores_N: Array, sds_N: Array, values: Sequence[float]) -> Array:
    """The least factor of each row whose `interval` holds its gold score.

    The scores must come from maps that have not seen the row's task.
    """
    values_Y = np.asarray(values, dtype=np.float64)
    # Snapped outward, limits hold gold as soon as they reach the score of the scale before it.
    before_N = np.append(-np.inf, values_Y)[np.searchsorted(values_Y, gold_N, side="left")]
    after_N = np.append(values_Y, np.inf)[np.searchsorted(values_Y, gold_N, side="right")]
    missing_N = np.maximum(before_N - scores_N, scores_N - after_N)
    return np.asarray(np.maximum(missing_N, 0) / sigma(sds_N, values))


def one_of_each_task(tasks: Sequence[str], ids: Sequence[str]) -> Array:
    """Positions of one row of each task, chosen by a hash of its id and so by no look at its score."""
    chosen = dict[str, tuple[str, int]]()
    for place, (task, name) in enumerate(zip(tasks, ids, strict=True)):
        one = (hashlib.sha256(f"interval|{task}|{name}".encode()).hexdigest(), place)
        chosen[task] = min(chosen.get(task, one), one)
    return np.array(sorted(place for _, place in chosen.values()), dtype=np.int64)


def fewest(level: float) -> int:
    """The tasks that a level needs at least: 1 / alpha - 1 with alpha = 1 - level."""
    return math.ceil(round(level / (1 - level), 9))


def quantile(residuals_N: Sequence[float] | Array, level: float) -> float:
    """The factor of sigma whose interval holds the gold score of a new row with a probability of at least `level`.

    Args:
        residuals_N: one of each task, in any order.
        level: above 0 and below 1.

    Raises:
        UserError: the level is none, or there are too few tasks for it.
    """
    if not 0 < level < 1:
        raise UserError(f"the level of an interval must lie between 0 and 1, as in 0.9, got {level:g}")
    n = len(residuals_N)
    if n < fewest(level):
        most = f"the highest level of {n} is {math.floor(1000 * n / (n + 1)) / 1000:g}"
        raise UserError(
            f"an interval of level {level:g} needs a calibration with {fewest(level)} tasks or more, and this one has "
            f"{n}; calibrate with more rated tasks, or ask for a lower level ({most})"
        )
    place = math.ceil(round((n + 1) * level, 9))  # 10 * 0.9 is 9, and not a little more
    return float(np.sort(residuals_N)[place - 1])


def interval(scores_N: Array, sds_N: Array, factor: float, values: Sequence[float]) -> tuple[Array, Array]:
    """Lower and upper limit of each row, each a score of the scale.

    Snapped outward, to the next scores below and above, and to the ends of the scale, which loses no gold score.

    Args:
        scores_N: calibrated as those of the residuals were.
        sds_N: of each verdict over the scale.
        factor: see `quantile`.
        values: Y, increasing.
    """
    values_Y, reach_N = np.asarray(values, dtype=np.float64), factor * sigma(sds_N, values)
    low_N = np.searchsorted(values_Y, scores_N - reach_N, side="left") - 1
    high_N = np.searchsorted(values_Y, scores_N + reach_N, side="right")
    last = len(values_Y) - 1
    return values_Y[np.clip(low_N, 0, last)], values_Y[np.clip(high_N, 0, last)]


def coverage(
    gold_N: Array, scores_N: Array, sds_N: Array, fold_N: Array, values: Sequence[float], level: float
) -> tuple[float, float] | None:
    """The share of rows whose gold score lies in the interval that the other folds give, and the mean width.

    Args:
        gold_N: of one row of each task, as the other arrays.
        scores_N: calibrated by maps that have not seen the row's task.
        sds_N: of each verdict over the scale.
        fold_N: number of each task's fold.
        values: Y.
        level: of the interval.

    Returns:
        None where the other folds have too few tasks for the level.
    """
    found_N, inside_N, width_N = (
        residuals(gold_N, scores_N, sds_N, values),
        np.zeros(len(gold_N)),
        np.zeros(len(gold_N)),
    )
    for fold in np.unique(fold_N):
        rest_N, own_N = found_N[fold_N != fold], fold_N == fold
        if len(rest_N) < fewest(level):
            return None
        low, high = interval(scores_N[own_N], sds_N[own_N], quantile(rest_N, level), values)
        inside_N[own_N] = (low <= gold_N[own_N]) & (gold_N[own_N] <= high)
        width_N[own_N] = high - low
    return float(inside_N.mean()), float(width_N.mean())
