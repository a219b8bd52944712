"""From the tables of predictions to everything that the report shows: the content of artifacts/statistics.json.

Each function makes one part of it; `null` stands for what is not available, and `reason` beside it says why.
Shapes: N examples of a benchmark.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tract_core.base.config import Score
from tract_core.base.rows import UNTRAINED
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.compare import baselines, statistics
from tract_core.compare.statistics import Array, Panel, Run
from tract_core.score import metrics, scoring
from tract_core.score.draws import Draws
from tract_core.score.paper_lines import LINES, MEAN, REFERENCE, Line, line_of

PREDICTORS = (*scoring.PREDICTORS, scoring.SAMPLED)
_SWEPT = ("pearson", "rmse")
_SOURCES = ("annotator", "a1", "tract")
"""Whose CoTs a perplexity is of, as the report lists them."""

Examples = Mapping[str, Sequence[Record]]
"""Benchmark -> its rows of the examples table."""
Predictions = Mapping[str, scoring.Runs]
"""Row of the paper's tables -> training seed -> its predictions; a seed that has not run yet is absent."""


def tables(
    predictions: Predictions,
    training: Sequence[Record],
    examples: Examples,
    seeds: Sequence[int],
    scale: ScoreScale,
    score: Score,
    level: float,
) -> Record:
    """`cells` (all rows, predictors and metrics), `differences` from line 6 (lines and rows of one's own), `judge`.

    `judge` is the row that the report is about, beside what needs no model or no training: row 6, or without it the
    first row that is complete; null where none is.

    Intervals are computed for the lines of the paper's tables and for RAIL of every row. A row without the
    predictions of some training seed has no numbers: a mean over other seeds would not be comparable.
    """
    panels = {bench: Panel.of_examples(judged) for bench, judged in examples.items()}
    complete = {row: runs for row, runs in predictions.items() if not _missing_seeds(runs, seeds)}
    runs = {
        (row, bench, predictor): runs_of(complete[row], bench, judged, predictor, scale, score)
        for row in complete
        for bench, judged in examples.items()
        for predictor in PREDICTORS
    }
    pairs = [*((line.row, line.predictor) for line in LINES), *((row, "rail") for row in complete)]
    found = statistics.estimates(panels, runs, pairs, scale.values)
    rows = list(dict.fromkeys([*predictions, *(line.row for line in LINES)]))
    cells = statistics.summarize(panels, runs, rows, PREDICTORS, scale.values, found, level)
    incomplete = {row: _missing_seeds(of_row, seeds) for row, of_row in predictions.items() if of_row}
    cells = [_with_missing_seeds(cell, incomplete.get(cell["row"], [])) for cell in cells]
    compared = [
        # Apart, so that Holm's correction of the paper's lines does not depend on what else was tried.
        *statistics.compare_lines(LINES, REFERENCE, cells, found, level),
        *statistics.compare_lines(_own_lines(predictions), REFERENCE, cells, found, level),
    ]
    # Rows that were not asked for have no cells at all: the page names them once.
    cells = [cell for cell in cells if cell["row"] in predictions]
    row = REFERENCE.row if REFERENCE.row in complete else next(iter(complete), None)
    judge = None
    if row is not None:
        read = line_of(row).predictor
        untrained = [UNTRAINED] if UNTRAINED in complete and row != UNTRAINED else []
        others = baselines.compared(training, examples, scale.values, (row, read), untrained, cells, found, level)
        constant = float(np.mean([example["gold"] for example in training]))
        sizes = _sizes(complete[row], examples)
        judge = {"row": row, "predictor": read, "constant": constant, "benches": sizes, **others}
        judge["length"] = length_effect(complete[row], examples, scale, score, level)
    return {"cells": cells, "differences": compared, "judge": judge}


def _own_lines(predictions: Predictions) -> list[Line]:
    return [line for line in map(line_of, predictions) if line not in LINES]


def _sizes(runs: scoring.Runs, examples: Examples) -> list[Record]:
    """How much a judge's numbers stand on: for each benchmark its examples, tasks, CoTs, and those that are bad.

    `gold_sd`: how much gold varies, in units of the scale.
    """
    return [
        {
            "bench": bench,
            "n": len(judged),
            "num_tasks": len({example["group_id"] for example in judged}),
            "num_cots": sum(len(drawn) for drawn in of_bench),
            "num_bad_cots": sum(int((~drawn.are_ok()).sum()) for drawn in of_bench),
            "gold_sd": float(np.std([example["gold"] for example in judged])),
        }
        for bench, judged in examples.items()
        for of_bench in [[drawn.of_source(bench) for drawn in runs.values()]]
    ]


def length_effect(
    runs: scoring.Runs, examples: Examples, scale: ScoreScale, score: Score, level: float
) -> list[Record]:
    """Does length move the score where gold is the same? For each benchmark the partial correlation of the expected
    score with the number of words of the response, gold held, with its interval over tasks.
    """
    found = []
    for bench, judged in examples.items():
        by_id = {example["id"]: example for example in judged}
        points = [one for one in scoring.scatter(runs, [bench], scale, score) if one["rail"] is not None]
        of_points = [by_id[one["id"]] for one in points]
        score_N = np.array([one["rail"] for one in points])
        words_N = np.array([float(len(example["response"].split())) for example in of_points])
        gold_N = np.array([one["gold"] for one in points])
        groups = [example["group_id"] for example in of_points]
        found.append({"bench": bench, **statistics.partial_by_cluster(score_N, words_N, gold_N, groups, level)})
    return found


def ceiling(examples: Examples) -> list[Record]:
    """`ceiling`: the annotators' agreement with one another, for each benchmark."""
    return [
        record
        for bench, found in examples.items()
        for record in statistics.annotator_ceiling(bench, [example["gold_scores"] for example in found])
    ]


def table3(
    predictions: Mapping[str, Mapping[str, scoring.Runs]],
    examples: Sequence[Record],
    seeds: Sequence[int],
    scale: ScoreScale,
    score: Score,
    level: float,
) -> Record:
    """`table3`: RMSE (RAIL) after training CoTs and after own CoTs, over training examples and training seeds.

    Args:
        predictions: row -> `training` and `own` -> training seed -> predictions.
        examples: the training examples that were looked at.
        seeds: the training seeds; a part that lacks one counts as not run.
        scale: Y.
        score: which CoTs count.
        level: of the intervals; the training seeds of one example stay together.
    """
    parts = [
        _gap(row, {cots: _complete(runs, seeds) for cots, runs in by_cots.items()}, examples, scale, score, level)
        for row, by_cots in predictions.items()
    ]
    return {"cells": [cell for cells, _ in parts for cell in cells], "gaps": [gap for _, gap in parts]}


def figure2(cells: Sequence[Record], lambdas: Mapping[str, float]) -> list[Record]:
    """`figure2`: RAIL's r and RMSE of each row (row 6 with some lambda) on each benchmark and on their mean."""
    return [
        {"lambda": lambdas[cell["row"]], **{name: cell[name] for name in _POINT}}
        for cell in cells
        if cell["row"] in lambdas and cell["predictor"] == "rail" and cell["metric"] in _SWEPT
    ]


def lambda_curve(points: Sequence[Record]) -> list[Record]:
    """Figure 2 for `dvc plots`: mean r and RMSE of each row, in the order of lambda."""
    value = {(point["row"], point["metric"]): point["value"] for point in points if point["bench"] == MEAN}
    rows = sorted({(point["lambda"], point["row"]) for point in points})
    return [
        {"lambda": lam, "row": row, **{metric: value[row, metric] for metric in ("pearson", "rmse")}}
        for lam, row in rows
    ]


_POINT = ("row", "bench", "metric", "value", "low", "high", "sd_training", "reason")


def figure3(
    curves: Predictions, examples: Examples, seeds: Sequence[int], scale: ScoreScale, score: Score
) -> list[Record]:
    """`figure3`: mean r over the benchmarks against K, and against the tokens generated for an example.

    The CoTs of K are the first K of each example, so the points are nested. `sd` is over inference seeds (mean
    over training seeds). A row that lacks a training seed has no points.
    """
    return [
        {"row": row, "line": line.label, **_point(runs, k, line.predictor, examples, scale, score)}
        for row, drawn in curves.items()
        for line, runs in [(line_of(row), _complete(drawn, seeds))]
        for k in range(1, 2 + max((int(of_seed.k_N.max(initial=-1)) for of_seed in runs.values()), default=-1))
    ]


def per_seed(found: Mapping[int, Mapping[str, Any]]) -> list[Record]:
    """`perplexity`: training seed -> source -> measurement, as one record each; the annotator has no seed."""
    records: list[Record] = []
    for seed, by_source in found.items():
        for source, values in sorted(by_source.items(), key=lambda item: _SOURCES.index(item[0])):
            if source != "annotator" or not any(record["source"] == source for record in records):
                records.append({"source": source, "seed": None if source == "annotator" else seed, **values})
    return records


def per_source(found: Mapping[int, Mapping[str, Any]]) -> Record | None:
    """`meta_judge`: source -> ratings, the training seed named where there are several; None where it did not run."""
    named = {
        source if len(found) == 1 else f"{source}, seed {seed}": values
        for seed, by_source in found.items()
        for source, values in by_source.items()
    }
    return named or None


def _missing_seeds(runs: scoring.Runs, seeds: Sequence[int]) -> list[int]:
    return [] if None in runs else [seed for seed in seeds if seed not in runs]


def _complete(runs: scoring.Runs, seeds: Sequence[int]) -> scoring.Runs:
    """The runs if no training seed is missing, else none."""
    return {} if _missing_seeds(runs, seeds) else runs


def _with_missing_seeds(cell: Record, missing: Sequence[int]) -> Record:
    if not missing:
        return cell
    return {**cell, "reason": f"no predictions of row {cell['row']} for training seed {', '.join(map(str, missing))}"}


def runs_of(
    found: scoring.Runs, bench: str, examples: Sequence[Record], predictor: str, scale: ScoreScale, score: Score
) -> list[Run]:
    """A row's predictions for one benchmark, in the order of its examples, for `statistics.estimates`."""
    return [
        Run(training_seed=training, inference_seed=inference, predictions_N=predictions_N)
        for (training, inference), predictions_N in scoring.by_run(
            found, bench, predictor, scale, score, [example["id"] for example in examples]
        ).items()
    ]


def _gap(
    row: str,
    by_cots: Mapping[str, scoring.Runs],
    examples: Sequence[Record],
    scale: ScoreScale,
    score: Score,
    level: float,
) -> tuple[list[Record], Record]:
    ran = [runs for runs in by_cots.values() if runs]
    seeds = [seed for seed in ran[0] if all(seed in runs for runs in ran)] if ran else []

    def stacked(cots: str) -> Array | None:
        parts = [
            _expected_scores(by_cots[cots][seed], examples, scale, score) for seed in seeds if seed in by_cots[cots]
        ]
        return np.concatenate(parts) if parts else None

    return statistics.rmse_gap(
        row, stacked("training"), stacked("own"), Panel.of_examples([*examples] * max(1, len(seeds))), level
    )


def _expected_scores(drawn: Draws, examples: Sequence[Record], scale: ScoreScale, score: Score) -> Array:
    """Of examples of any sources, in their order; there is one draw for each."""
    values_N = scoring.predictions_of(drawn, "rail", scale, score).tolist()
    places = zip(drawn.source_N.tolist(), drawn.id_N.tolist(), strict=True)
    by_key = {
        (drawn.sources[source], drawn.ids[name]): value for (source, name), value in zip(places, values_N, strict=True)
    }
    return np.array([by_key.get((example["source"], example["id"]), math.nan) for example in examples])


def _point(
    runs: scoring.Runs, k: int, predictor: str, examples: Examples, scale: ScoreScale, score: Score
) -> dict[str, Any]:
    """One point of Figure 3."""
    nested = {seed: drawn.where(drawn.k_N < k) for seed, drawn in runs.items()}
    every = [(seed, inference) for seed, drawn in nested.items() for inference in np.unique(drawn.run_seed_N).tolist()]
    found = {}
    for bench, judged in examples.items():
        by_run = scoring.by_run(nested, bench, predictor, scale, score, [example["id"] for example in judged])
        nothing_N = np.full(len(judged), np.nan)
        predictions = {seeds: by_run.get(seeds, nothing_N) for seeds in every}
        found[bench] = metrics.over_runs(predictions, [example["gold"] for example in judged], scale.values)
    mean = metrics.over_benches(found).cells["pearson"]
    reasons = [f"{bench}: {why}" for bench, one in found.items() for why in one.cells["pearson"].reasons]
    return {
        "k": k,
        "bench": MEAN,
        "value": metrics.mean_and_sd(list(mean.by_seeds.values()))[0],
        "sd": mean.sd_inference,
        "tokens": sum(int(drawn.num_tokens_N.sum()) for drawn in nested.values()) / sum(map(_asked, nested.values())),
        "n_seeds": len({inference for _, inference in every}),
        "reason": "; ".join(reasons) or None,
    }


def _asked(drawn: Draws) -> int:
    """How many examples, counted anew for each inference seed."""
    return len(np.unique(np.stack([drawn.run_seed_N, drawn.source_N, drawn.id_N]), axis=1).T)
