"""Mean gold score of a system from many judged rows and few labels: prediction-powered inference.

PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453): with n rows that have gold y and a judge's score f, and N
that have f alone,

    theta = mean_n(y) + lam * (mean_N(f) - mean_n(f)).

It is unbiased for any lam, however wrong the judge, if the labelled tasks were drawn at random. lam = 0 is labels
alone; the best lam is cov_n(y, f) / ((1 + n / N) var(f)), clipped to [0, 1].

Rows of one task are not independent, so variances are over tasks: the deviation of theta is a sum over tasks of
u_C - lam * v_C (below), and lam is the slope of u on v. With tasks of one row that is the formula above, where var(f)
is taken from the n and from the N rows, each for its part. A slope fitted to few tasks makes its own residuals too
small, so the variance takes for each task the slope of all others. Limits are Student's with one degree of freedom less
than there are labelled tasks.

`ppi-python` has the same estimator for independent rows with normal limits. It knows no tasks, nor does its bootstrap,
so on 20 tasks of several rows its intervals would be too narrow; it is not used.

Shapes: n labelled rows, N others, C tasks of either kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tract_core.base.errors import UserError

Array = NDArray[Any]
FEWEST_TASKS = 5
"""Labelled tasks; with fewer Student's limits say nothing of use."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The judged rows of one system; `gold` is NaN where there is none."""

    gold: Array
    score: Array
    tasks: Sequence[str]

    @property
    def labelled(self) -> Array:
        """Which rows have gold: bool."""
        return np.asarray(np.isfinite(self.gold))


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean, or a difference of two, with its interval; the numbers of a difference are those of both systems."""

    estimate: float
    low: float
    high: float
    level: float
    labels_estimate: float
    """From labels alone, as the next two."""
    labels_low: float
    labels_high: float
    lam: float
    """From 0, where the judge's scores are of no use, to 1."""
    labelled_rows: int
    unlabelled_rows: int
    labelled_tasks: int
    unlabelled_tasks: int

    @property
    def worth(self) -> float:
        """How many labels alone would give this interval, for each label that there is."""
        width, alone = self.high - self.low, self.labels_high - self.labels_low
        return (alone / width) ** 2 if width > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """theta = y + lam * f; its deviation is the sum over tasks of u_C - lam * v_C."""

    y: float
    f: float
    u_C: Array
    v_C: Array


def mean(rows: Rows, *, level: float = 0.95) -> Mean:
    """The mean gold score of a system.

    Raises:
        UserError: fewer than `FEWEST_TASKS` tasks with gold, no row without, or all gold scores are the same.
    """
    _require_enough(rows, "")
    parts = _parts(rows, {task: number for number, task in enumerate(dict.fromkeys(rows.tasks))})
    if len(np.unique(rows.gold[rows.labelled])) == 1:
        raise UserError("all labels are the same gold score, which says nothing of its spread; label more")
    return _estimated(parts, [rows], level)


def difference(a: Rows, b: Rows, *, level: float = 0.95) -> Mean:
    """Mean of A less that of B, paired where they share tasks; lam is tuned for the difference.

    So it can differ a little from the difference of the two means.

    Raises:
        UserError: as `mean`, for one of the two.
    """
    for name, rows in (("A", a), ("B", b)):
        _require_enough(rows, f"system {name}: ")
    numbers = {task: number for number, task in enumerate(dict.fromkeys([*a.tasks, *b.tasks]))}
    of_a, of_b = _parts(a, numbers), _parts(b, numbers)
    both = _Parts(y=of_a.y - of_b.y, f=of_a.f - of_b.f, u_C=of_a.u_C - of_b.u_C, v_C=of_a.v_C - of_b.v_C)
    return _estimated(both, [a, b], level)


def _require_enough(rows: Rows, where: str) -> None:
    tasks = len(_tasks(rows, labelled=True))
    if tasks < FEWEST_TASKS:
        raise UserError(
            f"{where}{tasks} task(s) have a gold score and a judge's score; an interval needs at least {FEWEST_TASKS}. "
            "Label rows of more tasks, chosen at random"
        )
    if rows.labelled.all():
        raise UserError(
            f"{where}every row has a gold score, so the judge adds nothing; judge rows without gold too, or take the "
            "mean of the gold scores"
        )


def _tasks(rows: Rows, *, labelled: bool) -> set[str]:
    return {task for task, has_gold in zip(rows.tasks, rows.labelled, strict=True) if bool(has_gold) == labelled}


def _parts(rows: Rows, numbers: dict[str, int]) -> _Parts:
    has, task = rows.labelled, np.array([numbers[one] for one in rows.tasks])
    y_n, f_n, f_N = rows.gold[has], rows.score[has], rows.score[~has]

    def over_tasks(values: Array, which: Array) -> Array:
        """The share of each task in the deviation of their mean."""
        return np.bincount(task[which], (values - values.mean()) / len(values), len(numbers))

    return _Parts(
        y=float(y_n.mean()),
        f=float(f_N.mean() - f_n.mean()),
        u_C=over_tasks(y_n, has),
        v_C=over_tasks(f_n, has) - over_tasks(f_N, ~has),
    )


def _estimated(parts: _Parts, systems: Sequence[Rows], level: float) -> Mean:
    num_tasks = min(len(_tasks(rows, labelled=True)) for rows in systems)
    u_C, v_C = parts.u_C, parts.v_C
    lam = float(_slope(u_C @ v_C, v_C @ v_C))
    others_C = _slope(u_C @ v_C - u_C * v_C, v_C @ v_C - v_C**2)
    quantile = stats.t.ppf((1 + level) / 2, num_tasks - 1) * math.sqrt(num_tasks / (num_tasks - 1))
    half, alone = (float(quantile * np.linalg.norm(one)) for one in (u_C - others_C * v_C, u_C))
    estimate = parts.y + lam * parts.f
    return Mean(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        level=level,
        labels_estimate=parts.y,
        labels_low=parts.y - alone,
        labels_high=parts.y + alone,
        lam=lam,
        labelled_rows=sum(int(rows.labelled.sum()) for rows in systems),
        unlabelled_rows=sum(int((~rows.labelled).sum()) for rows in systems),
        labelled_tasks=len(set[str]().union(*(_tasks(rows, labelled=True) for rows in systems))),
        unlabelled_tasks=len(set[str]().union(*(_tasks(rows, labelled=False) for rows in systems))),
    )


def _slope(uv: Any, vv: Any) -> Array:
    """uv / vv in [0, 1]; 0 where v does not vary."""
    vv = np.asarray(vv)
    return np.asarray(np.clip(np.divide(uv, vv, out=np.zeros_like(vv), where=vv > 1e-24), 0, 1))
