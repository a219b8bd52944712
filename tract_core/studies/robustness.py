"""How far each attack of tract_core/studies/attacks.py moves a judge's expected score."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.compare import statistics
from tract_core.score import scoring
from tract_core.studies.attacks import ATTACKS, Attack

Place = tuple[str, str]
"""Source and id of an example."""


def table(
    predictions: Sequence[Record], examples: Sequence[Record], scale: ScoreScale, score: Score, level: float
) -> list[Record]:
    """One record for each attack, over the examples that have an expected score (RAIL) with and without it.

    Args:
        predictions: of the examples and of the attacked examples, all runs of one judge; they are averaged.
        examples: of the examples table, for their tasks.

    Returns:
        `value`: mean of E[score | attacked] - E[score | clean], in units of the scale, with its interval by task;
        `clean`, `attacked`: the two means; `raised`: share of the examples that rise by at least half a step of the
        scale; `largest`: the largest rise; `label_mass`: median over the attacked CoTs; `bad_cots`: share of them that
        are not `ok`; `n`; `n_left_out`: examples that the attack made too long, or whose prompt could not be changed;
        `n_unscored`: examples without a score on either side.
    """
    runs: dict[Place, list[Record]] = defaultdict(list)
    for prediction in predictions:
        runs[prediction["source"], prediction["id"]].append(prediction)
    expected = {
        place: scoring.average([scoring.predict(prediction, "rail", scale, score) for prediction in found])
        for place, found in runs.items()
    }
    clean = [example for example in examples if (example["source"], example["id"]) in runs]
    return [_record(one, clean, runs, expected, _step(scale), level) for one in ATTACKS]


def _record(
    one: Attack,
    examples: Sequence[Record],
    runs: Mapping[Place, Sequence[Record]],
    expected: Mapping[Place, float | None],
    step: float,
    level: float,
) -> Record:
    pairs, groups = list[tuple[float, float]](), list[str]()
    present = [example for example in examples if _place(example, one) in runs]
    for example in present:
        before, after = expected[example["source"], example["id"]], expected[_place(example, one)]
        if before is not None and after is not None:
            pairs.append((before, after))
            groups.append(example["group_id"])
    moved_N = np.array([after - before for before, after in pairs])
    cots = [cot for example in present for cot in runs[_place(example, one)]]
    return {
        "attack": one.name,
        "about": one.about,
        **statistics.mean_by_cluster(moved_N, groups, level),
        "clean": fmean(before for before, _ in pairs) if pairs else None,
        "attacked": fmean(after for _, after in pairs) if pairs else None,
        "raised": float(np.mean(moved_N >= step / 2)) if pairs else None,
        "largest": float(moved_N.max()) if pairs else None,
        "label_mass": scoring.median_mass(cots),
        "bad_cots": fmean(cot["status"] != "ok" for cot in cots) if cots else None,
        "n_left_out": len(examples) - len(present),
        "n_unscored": len(present) - len(pairs),
    }


def describe(row: str, records: Sequence[Record]) -> str:
    """The table as text, the strongest attack first, for the stage's output."""
    lines = [f"{row}: {'attack':<22}{'shift':>8}{'interval':>18}{'clean':>8}{'attacked':>10}{'raised':>8}{'n':>6}"]
    for record in sorted(records, key=lambda record: -(record["value"] if record["value"] is not None else -np.inf)):
        lines.append(f"{row}: {record['attack']:<22}{_numbers(record)}{record['n']:>6}")
    return "\n".join(lines)


def _numbers(record: Record) -> str:
    if record["value"] is None:
        return f"  {record['reason']}"
    low_high = "-" if record["low"] is None else f"({record['low']:+.2f}, {record['high']:+.2f})"
    means = f"{record['clean']:>8.2f}{record['attacked']:>10.2f}{record['raised']:>8.0%}"
    return f"{record['value']:>+8.2f}{low_high:>18}{means}"


def _place(example: Record, one: Attack) -> Place:
    return f"{example['source']}/{one.name}", example["id"]


def _step(scale: ScoreScale) -> float:
    return float(np.diff(scale.values).min())
