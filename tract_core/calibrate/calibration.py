"""A judge's scores and gold of held-out tasks -> the map from its score to the gold score that people give on average.

Three maps are fitted beside leaving the score as it is (identity): a straight line (affine), a step-wise rising curve
(isotonic), and a temperature of the probabilities over the scale. All that is said of a map, and the choice between
them, rests on cross-fitting by task: the map that gives a row its value was fitted without any row of the row's task.
The choice itself is made with all tasks, so with few of them the numbers of the chosen map are a little too good.

from tract_core.calibrate.calibration import Judged, calibrated
found = calibrated(Judged(...), values=(1, 2, 3, 4, 5), num_samples=4, temperature=1.0)
found.calibration.apply(scores_N, probs_NY, values)

Shapes: N rows, Y scores of the scale. Light: scipy and scikit-learn are imported only where a map is fitted.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tract_core.base.errors import UserError
from tract_core.base.section import Section
from tract_core.calibrate import intervals

Array = NDArray[Any]
Kind = Literal["identity", "affine", "temperature", "isotonic"]
KINDS: tuple[Kind, ...] = ("identity", "affine", "temperature", "isotonic")
"""The simplest first."""
FEWEST_TASKS = 30
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of the intervals whose coverage is measured."""
_FOLDS = 10
_TIE = 0.01
"""A map replaces a simpler one if its squared error is smaller by this share; less is chance with any affordable n."""
_LEAST = 1e-12
"""Of a probability, before its logarithm."""
_LOG_TEMPERATURES = (-3.0, 3.0)
_ROWS_OF_A_BIN, _MOST_BINS = 10, 10


class Map(Section):
    """From a judge's verdict to a calibrated score; the parameters that its kind has not are null."""

    kind: Kind
    slope: float | None = None
    intercept: float | None = None
    """affine: slope * score + intercept, which may lie off the scale."""
    temperature: float | None = None
    """temperature: the expectation under softmax(log p_Y / temperature) over the scale."""
    scores: list[float] | None = None
    golds: list[float] | None = None
    """isotonic: its corners, joined by lines and level beyond both ends."""

    def apply(self, scores_N: Array, probs_NY: Array, values: Sequence[float]) -> Array:
        """Calibrated scores (N,), in units of the scale.

        Args:
            scores_N: expected scores (Eq. 3).
            probs_NY: probabilities of the labels; they need not sum to 1.
            values: Y.
        """
        if self.slope is not None and self.intercept is not None:
            return self.slope * scores_N + self.intercept
        if self.temperature is not None:
            return np.asarray(_tempered(probs_NY, self.temperature) @ np.asarray(values, dtype=np.float64))
        if self.scores is not None and self.golds is not None:
            return np.interp(scores_N, self.scores, self.golds)
        return np.asarray(scores_N, dtype=np.float64)


_WORDS: dict[Kind, str] = {
    "identity": "the score as it is",
    "affine": "a straight line",
    "temperature": "a temperature of the probabilities",
    "isotonic": "a rising curve",
}


def describe(found: Map) -> str:
    """A map in words, with its parameters where it is a formula."""
    if found.slope is not None and found.intercept is not None:
        return f"{_WORDS[found.kind]}: {found.slope:.3f} x score {found.intercept:+.3f}"
    return _WORDS[found.kind] + ("" if found.temperature is None else f": {found.temperature:.3f}")


class Quality(Section):
    """How well scores agree with gold, over rows."""

    rmse: float
    ece: float
    """Expected calibration error: mean over bins of equal count of |mean score - mean gold|, in units of the scale."""
    r: float | None
    """Pearson's; null where scores or gold are all equal."""


class Calibration(Section):
    """What judge.json holds of it."""

    map: Map
    residuals: list[float] = Field(min_length=1)
    """One of each task, cross-fitted, sorted: see tract_core/calibrate/intervals.py."""
    tasks: int
    rows: int
    num_samples: int
    """CoTs for each row. With another number scores have another spread, and the residuals are not theirs."""
    temperature: float
    """Of these CoTs."""
    before: Quality
    after: Quality
    """Of cross-fitted scores."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """N verdicts with gold."""

    ids: Sequence[str]
    tasks: Sequence[str]
    gold_N: Array
    scores_N: Array
    """Expected scores."""
    probs_NY: Array
    sds_N: Array
    """Of the distribution over the scale."""

    def only(self, kept_N: Array) -> "Judged":
        """The rows of a mask or of positions."""
        places = np.arange(len(self.ids))[kept_N]
        return Judged(
            ids=[self.ids[place] for place in places],
            tasks=[self.tasks[place] for place in places],
            gold_N=self.gold_N[places],
            scores_N=self.scores_N[places],
            probs_NY=self.probs_NY[places],
            sds_N=self.sds_N[places],
        )


class Bin(NamedTuple):
    """A line of the reliability table."""

    score: float
    """Mean of the scores."""
    gold: float
    """Mean gold of the same rows."""
    n: int


class Coverage(NamedTuple):
    """What intervals of one level are worth, by cross-validation."""

    level: float
    share: float | None
    """Of the tasks whose gold score lies inside; None where there are too few tasks for the level."""
    width: float | None
    """Mean, in units of the scale."""


class Found(NamedTuple):
    """A calibration, and what is said of it."""

    calibration: Calibration
    scores_N: Array
    """Cross-fitted calibrated scores."""
    errors: dict[Kind, float]
    """Cross-fitted mean squared error of each map."""
    coverage: list[Coverage]
    """Of the intervals of each of LEVELS."""


def calibrated(
    judged: Judged, values: Sequence[float], *, num_samples: int, temperature: float, few_tasks: bool = False
) -> Found:
    """The map with the least cross-fitted squared error, fitted to all rows, and the residuals for intervals.

    Args:
        judged: rows that the judge has not learnt from.
        values: Y.
        num_samples: CoTs for each row.
        temperature: of them.
        few_tasks: take fewer than FEWEST_TASKS.

    Raises:
        UserError: there are too few tasks, or scikit-learn or scipy is not installed.
    """
    _require(judged, few_tasks=few_tasks)
    fold_N = folds(judged.tasks)
    found = {kind: cross_fitted(kind, judged, values, fold_N) for kind in KINDS}
    errors = {kind: float(np.mean((scores_N - judged.gold_N) ** 2)) for kind, scores_N in found.items()}
    kind = choose(errors)
    scores_N, one = found[kind], intervals.one_of_each_task(judged.tasks, judged.ids)
    of_tasks = (judged.gold_N[one], scores_N[one], judged.sds_N[one])
    calibration = Calibration(
        map=fitted(kind, judged, values),
        residuals=sorted(intervals.residuals(*of_tasks, values).tolist()),
        tasks=len(one),
        rows=len(judged.ids),
        num_samples=num_samples,
        temperature=temperature,
        before=quality(judged.scores_N, judged.gold_N),
        after=quality(scores_N, judged.gold_N),
    )
    covered = {level: intervals.coverage(*of_tasks, fold_N[one], values, level) for level in LEVELS}
    coverage = [Coverage(level, *(found or (None, None))) for level, found in covered.items()]
    return Found(calibration, scores_N, errors, coverage)


def _require(judged: Judged, *, few_tasks: bool) -> None:
    tasks, needed = len(set(judged.tasks)), 2 if few_tasks else FEWEST_TASKS
    if tasks < needed:
        remedy = "rate replies to more tasks"
        raise UserError(
            f"the judged rows with gold come from {tasks} task(s), and a calibration needs {needed}: rows of one task "
            f"are no independent evidence; {remedy if few_tasks else f'{remedy}, or take few with --few-tasks'}"
        )
    if absent := [name for name in ("scipy", "sklearn") if importlib.util.find_spec(name) is None]:
        raise UserError(f"calibration needs {' and '.join(absent)}; install the extra: pip install 'tract[calibrate]'")


def folds(tasks: Sequence[str], num: int = _FOLDS) -> Array:
    """The fold of each row (N,): all rows of a task are in one, and folds have equally many tasks, give or take one."""
    order = sorted(set(tasks), key=lambda task: hashlib.sha256(f"fold|{task}".encode()).hexdigest())
    fold_of = {task: place % num for place, task in enumerate(order)}
    return np.array([fold_of[task] for task in tasks], dtype=np.int64)


def cross_fitted(kind: Kind, judged: Judged, values: Sequence[float], fold_N: Array) -> Array:
    """Calibrated scores (N,), those of each fold by the map that the other folds give."""
    scores_N = np.empty(len(fold_N))
    for fold in np.unique(fold_N):
        own_N = fold_N == fold
        found = fitted(kind, judged.only(~own_N), values)
        scores_N[own_N] = found.apply(judged.scores_N[own_N], judged.probs_NY[own_N], values)
    return scores_N


def choose(errors: dict[Kind, float]) -> Kind:
    """The kind with the least squared error; of those that are as good up to 1 % the simplest."""
    least = min(errors.values())
    return next(kind for kind in KINDS if errors[kind] * (1 - _TIE) <= least)


def fitted(kind: Kind, judged: Judged, values: Sequence[float]) -> Map:
    """The map of one kind that fits these rows best."""
    if kind == "affine":
        return _affine(judged.scores_N, judged.gold_N)
    if kind == "temperature":
        return _temperature(judged.probs_NY, judged.gold_N, values)
    return _isotonic(judged.scores_N, judged.gold_N) if kind == "isotonic" else Map(kind="identity")


def _affine(scores_N: Array, gold_N: Array) -> Map:
    centred_N = scores_N - scores_N.mean()
    spread = float(centred_N @ centred_N)
    slope = float(centred_N @ gold_N) / spread if spread > 0 else 0.0  # equal scores tell nothing but the mean
    return Map(kind="affine", slope=slope, intercept=float(gold_N.mean() - slope * scores_N.mean()))


def _isotonic(scores_N: Array, gold_N: Array) -> Map:
    from sklearn.isotonic import IsotonicRegression

    found = IsotonicRegression(out_of_bounds="clip").fit(scores_N, gold_N)
    return Map(kind="isotonic", scores=found.X_thresholds_.tolist(), golds=found.y_thresholds_.tolist())


def _temperature(probs_NY: Array, gold_N: Array, values: Sequence[float]) -> Map:
    """The T with the least -sum log softmax(log p_Y / T)[gold]."""
    from scipy import optimize

    share_NY = _shares(gold_N, values)

    def loss(log_temperature: float) -> float:
        return -float((share_NY * np.log(np.maximum(_tempered(probs_NY, np.exp(log_temperature)), _LEAST))).sum())

    found = optimize.minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return Map(kind="temperature", temperature=float(np.exp(found.x)))


def _tempered(probs_NY: Array, temperature: float) -> Array:
    logits_NY = np.log(np.maximum(probs_NY, _LEAST)) / temperature
    weights_NY = np.exp(logits_NY - logits_NY.max(axis=1, keepdims=True))
    return np.asarray(weights_NY / weights_NY.sum(axis=1, keepdims=True))


def _shares(gold_N: Array, values: Sequence[float]) -> Array:
    """Gold as a distribution over Y (N, Y): a mean of raters is shared by the two scores beside it."""
    values_Y = np.asarray(values, dtype=np.float64)
    return np.stack([np.interp(gold_N, values_Y, one_hot_Y) for one_hot_Y in np.eye(len(values_Y))], axis=1)


def reliability(scores_N: Array, gold_N: Array) -> list[Bin]:
    """Rows in bins of equal count by their score: up to ten of them, with ten rows or more each."""
    bins = max(1, min(_MOST_BINS, len(scores_N) // _ROWS_OF_A_BIN))
    parts = np.array_split(np.argsort(scores_N, kind="stable"), bins)
    return [Bin(float(scores_N[part].mean()), float(gold_N[part].mean()), len(part)) for part in parts]


def quality(scores_N: Array, gold_N: Array) -> Quality:
    """Errors and correlation; the calibration error of few rows has some of their chance in it, also where none is."""
    gaps = [abs(one.score - one.gold) * one.n for one in reliability(scores_N, gold_N)]
    constant = min(np.ptp(scores_N), np.ptp(gold_N)) <= 1e-12  # where rounding would decide
    return Quality(
        rmse=float(np.sqrt(np.mean((scores_N - gold_N) ** 2))),
        ece=sum(gaps) / len(gold_N),
        r=None if constant else float(np.corrcoef(scores_N, gold_N)[0, 1]),
    )
