"""What a row's scores mean on each benchmark: the calibration and the intervals that its own gold would give.

A description of the run, drawn from predictions that exist: every number is cross-fitted by task, so no example is
measured with a map or an interval that has seen its task. No judge uses these maps; `tract calibrate` gives an exported
judge one, from rows that people rated (tract_core/judge/calibrating.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.calibrate import calibration
from tract_core.calibrate.calibration import FEWEST_TASKS, Bin, Judged
from tract_core.score import scoring
from tract_core.score.draws import Array, Draws, mean

FEWEST_SHOWN = 10
"""Tasks; with fewer, maps and intervals would be those of single tasks."""


def of_row(
    drawn: Draws | None, examples: Mapping[str, Sequence[Record]], scale: ScoreScale, score: Score
) -> dict[str, dict[str, Any]]:
    """Benchmark -> what calibration would do to the scores there, or why that is not said.

    Args:
        drawn: predictions of one row and training seed, all inference seeds and CoTs; they are averaged. None: the row
            has not run.
        examples: benchmark -> its examples.
        scale: Y.
        score: which CoTs count.

    Returns:
        For each benchmark `tasks`, `rows`, `without_score`, `few_tasks` (fewer than a calibration in use should rest
        on) and `refused` (null, or the reason). Where it is not refused also `map`, `before` and `after` (rmse, ece,
        r), `bins` and `bins_after` (mean score and mean gold where scores are about the same), and `intervals`
        (level, the share of tasks that they hold, mean width).
    """
    drawn = Draws.of([]) if drawn is None else drawn
    return {bench: _of_benchmark(drawn.of_source(bench), found, scale, score) for bench, found in examples.items()}


def _of_benchmark(drawn: Draws, examples: Sequence[Record], scale: ScoreScale, score: Score) -> dict[str, Any]:
    probs_EY = _mean_probabilities(drawn, [example["id"] for example in examples], scale, score)
    has_E = np.any(probs_EY, axis=1)
    read = [example for example, has in zip(examples, has_E.tolist(), strict=True) if has]
    tasks = len({example["group_id"] for example in read})
    about = {
        "tasks": tasks,
        "rows": len(read),
        "without_score": len(examples) - len(read),
        "few_tasks": tasks < FEWEST_TASKS,
        "refused": None,
    }
    if tasks < FEWEST_SHOWN:
        return {**about, "refused": f"its examples with a score are of {tasks} task(s), and this needs {FEWEST_SHOWN}"}
    return {**about, **_described(_judged(read, probs_EY[has_E], scale), scale)}


def _mean_probabilities(drawn: Draws, ids: Sequence[str], scale: ScoreScale, score: Score) -> Array:
    """Of each example over the draws that count (E, Y); all 0 where none does or the labels have no probability."""
    counts_N = scoring.usable_of(drawn, score) & drawn.read_N
    probs_NY = np.full((len(drawn), len(scale.values)), np.nan)
    if counts_N.any():  # else there may be no column for any score
        probs_NY[counts_N] = drawn.probs_NY[counts_N]
    return np.asarray(np.nan_to_num(np.stack([mean(*drawn.sums(probs_N, ids)) for probs_N in probs_NY.T], axis=1)))


def _judged(examples: Sequence[Record], probs_NY: Array, scale: ScoreScale) -> Judged:
    return Judged(
        ids=[example["id"] for example in examples],
        tasks=[example["group_id"] for example in examples],
        gold_N=np.array([example["gold"] for example in examples], dtype=np.float64),
        scores_N=scoring.rail(probs_NY, scale.values),
        probs_NY=probs_NY,
        sds_N=scoring.spread_over_scale(probs_NY, scale.values),
    )


def _described(judged: Judged, scale: ScoreScale) -> dict[str, Any]:
    # How many CoTs stand behind a score matters to a calibration in use, and this is none.
    found = calibration.calibrated(judged, scale.values, num_samples=1, temperature=1.0, few_tasks=True)
    one = found.calibration
    return {
        "map": one.map.model_dump(),
        "before": one.before.model_dump(),
        "after": one.after.model_dump(),
        "bins": _bins(calibration.reliability(judged.scores_N, judged.gold_N)),
        "bins_after": _bins(calibration.reliability(found.scores_N, judged.gold_N)),
        "intervals": [one._asdict() for one in found.coverage],
    }


def _bins(bins: Sequence[Bin]) -> list[dict[str, Any]]:
    return [one._asdict() for one in bins]


def describe(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Of one row, for the stage's output."""
    return "; ".join(f"{bench}: {_sentence(one)}" for bench, one in found.items())


def _sentence(one: Mapping[str, Any]) -> str:
    if one["refused"]:
        return f"not calibrated, {one['refused']}"
    errors = ", ".join(f"{name} {one['before'][key]:.2f} -> {one['after'][key]:.2f}" for name, key in _ERRORS)
    return f"{errors} by the map {one['map']['kind']}, on tasks that it was not fitted to"


_ERRORS = (("RMSE", "rmse"), ("calibration error", "ece"))
