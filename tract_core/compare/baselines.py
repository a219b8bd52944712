"""What a judge must beat to be worth anything: predictors that need no model, fitted on the training examples.

`constant` always answers the mean gold score of training, `length` knows the number of words of the response, `words`
knows which words stand in it. None reads the instruction or the rubric. `chance` draws a training example's score.

Shapes: N examples of a benchmark.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from tract_core.base.tables import Record
from tract_core.compare import statistics
from tract_core.compare.statistics import Array, Estimates, Panel, Run
from tract_core.score.paper_lines import MEAN
from tract_core.text import examples

NAMES = ("words", "length", "constant")
_RAIL, _SHOWN = "rail", ("pearson", "rmse")
_MOST_ROWS, _MOST_WORDS = 10_000, 50_000
"""Of the training examples that `words` is fitted on, and of its features: seconds, whatever the data."""


def predictions(training: Sequence[Record], judged: Sequence[Record]) -> dict[str, Array]:
    """Baseline -> its scores (N,) of the judged examples, inside the range of the training scores."""
    gold = np.array([example["gold"] for example in training], dtype=np.float64)
    found = {
        "words": _words(examples.sample(training, _MOST_ROWS), judged),
        "length": _length(training, judged),
        "constant": np.full(len(judged), gold.mean()),
    }
    return {name: np.clip(scores_N, gold.min(), gold.max()) for name, scores_N in found.items()}


def chance_rmse(training: Sequence[Record], judged: Sequence[Record]) -> float:
    """RMSE, in expectation, of answering with the score of a training example drawn at random; its r is 0."""
    drawn = np.array([example["gold"] for example in training], dtype=np.float64)
    gold_N = np.array([example["gold"] for example in judged], dtype=np.float64)
    return math.sqrt(float(np.mean((gold_N - drawn.mean()) ** 2) + drawn.var()))


def compared(
    training: Sequence[Record],
    benchmarks: Mapping[str, Sequence[Record]],
    values: Sequence[float],
    judge: tuple[str, str],
    others: Sequence[str],
    cells: Sequence[Record],
    estimates: Estimates,
    level: float,
) -> Record:
    """`baselines`: their r and RMSE as cells of statistics.json; `against`: the judge minus each of them.

    Args:
        training: what the baselines are fitted on, rows of the examples table.
        benchmarks: benchmark -> its rows of the examples table.
        values: the scores of Y, increasing.
        judge: row and predictor; its cells and estimates must be among those below.
        others: rows that it is compared with as well, read by the expected score.
        cells: those of statistics.json.
        estimates: those behind the cells.
        level: of the intervals.
    """
    panels = {bench: Panel.of_examples(judged) for bench, judged in benchmarks.items()}
    runs = {
        (name, bench, _RAIL): [Run(training_seed=None, inference_seed=0, predictions_N=scores_N)]
        for bench, judged in benchmarks.items()
        for name, scores_N in predictions(training, judged).items()
    }
    pairs = [(name, _RAIL) for name in NAMES]
    own = statistics.estimates(panels, runs, pairs, values)
    found = statistics.summarize(panels, runs, NAMES, (_RAIL,), values, own, level)
    found = [cell for cell in found if cell["metric"] in _SHOWN]
    rows = [cell for cell in cells if cell["row"] in others and cell["predictor"] == _RAIL]
    of_judge = {(c["bench"], c["metric"]): c for c in cells if (c["row"], c["predictor"]) == judge}
    differences = [
        _difference((of_judge[cell["bench"], cell["metric"]], cell), judge, {**estimates, **own}, level)
        for cell in [*(cell for cell in rows if cell["metric"] in _SHOWN), *found]
    ]
    return {"baselines": [*found, *_chance(training, benchmarks)], "against": differences}


def _difference(pair: tuple[Record, Record], judge: tuple[str, str], estimates: Estimates, level: float) -> Record:
    other = pair[1]
    key = {"baseline": other["row"], "bench": other["bench"], "metric": other["metric"]}
    if missing := [cell["reason"] for cell in pair if cell["value"] is None]:
        return {**key, **statistics.null_difference("; ".join(filter(None, missing)))}
    place = (other["bench"], other["metric"])
    found = [estimates[row, place[0], predictor, place[1]] for row, predictor in (judge, (other["row"], _RAIL))]
    return {**key, **statistics.difference(pair, found, level)}


def _chance(training: Sequence[Record], benchmarks: Mapping[str, Sequence[Record]]) -> list[Record]:
    """As cells; r is 0 by definition, and neither number is an estimate."""
    rmse = {bench: chance_rmse(training, judged) for bench, judged in benchmarks.items()}
    rmse[MEAN] = float(np.mean(list(rmse.values())))
    empty: dict[str, Any] = dict.fromkeys(("sd_training", "sd_inference")) | statistics.limits(None, None, 0.95)
    sizes = {bench: len(judged) for bench, judged in benchmarks.items()}
    sizes[MEAN] = sum(sizes.values())
    return [
        {"row": "chance", "bench": bench, "predictor": _RAIL, "metric": metric, "value": value, "n": n, "n_ok": n}
        | empty
        for bench, n in sizes.items()
        for metric, value in (("pearson", 0.0), ("rmse", rmse[bench]))
    ]


def _length(training: Sequence[Record], judged: Sequence[Record]) -> Array:
    """Least squares on the logarithm of the number of words."""

    def features(rows: Sequence[Record]) -> Array:
        return np.array([[math.log1p(len(row["response"].split()))] for row in rows])

    model = Ridge(alpha=1e-9).fit(features(training), [row["gold"] for row in training])
    return np.asarray(model.predict(features(judged)))


def _words(training: Sequence[Record], judged: Sequence[Record]) -> Array:
    """Ridge regression on TF-IDF of words and pairs of neighbours; the mean where no response has a word."""
    gold = [row["gold"] for row in training]
    if not any(row["response"].split() for row in training):
        return np.full(len(judged), np.mean(gold))
    vectors = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_WORDS, token_pattern=r"(?u)\w+|[^\w\s]"
    )
    model = make_pipeline(vectors, Ridge(alpha=1.0, solver="lsqr", tol=1e-8))
    model.fit([row["response"] for row in training], gold)
    responses = [row["response"] for row in judged]
    starts = range(0, len(responses), _MOST_ROWS)  # some thousand at a time: their features are many
    return np.concatenate([np.zeros(0), *(model.predict(responses[n : n + _MOST_ROWS]) for n in starts)])
