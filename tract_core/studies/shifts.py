"""How far the expected score of each example moves when the example is changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.compare import statistics
from tract_core.score import scoring
from tract_core.score.draws import Draws

Place = tuple[str, str]
"""Source and id of an example."""
Pair = tuple[Record, float, float]
"""An example, and its expected score as it is and changed."""


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """Judgements of examples as they are, and changed: those under the source `SOURCE/CHANGE`."""

    examples: Sequence[Record]
    """Those that were judged as they are."""
    runs: Mapping[Place, Sequence[Record]]
    expected: Mapping[Place, float | None]
    scale: ScoreScale

    @classmethod
    def of(cls, predictions: Sequence[Record], examples: Sequence[Record], scale: ScoreScale, score: Score) -> "Shifts":
        """All runs of one judge are averaged (RAIL); `examples` of the examples table, for their tasks."""
        runs, scores = defaultdict[Place, list[Record]](list), defaultdict[Place, list[float]](list)
        values = scoring.predictions_of(Draws.of(predictions), "rail", scale, score).tolist()
        for prediction, value in zip(predictions, values, strict=True):
            runs[prediction["source"], prediction["id"]].append(prediction)
            scores[prediction["source"], prediction["id"]].append(value)
        expected = {place: scoring.average(found) for place, found in scores.items()}
        clean = [example for example in examples if (example["source"], example["id"]) in runs]
        return cls(examples=clean, runs=runs, expected=expected, scale=scale)

    @property
    def step(self) -> float:
        """The smallest one of the scale."""
        return float(np.diff(self.scale.values).min())

    def pairs(self, change: str) -> list[Pair]:
        """The examples that have an expected score with and without a change."""
        found = []
        for example in self._present(change):
            before, after = self.expected[example["source"], example["id"]], self.expected[_place(example, change)]
            if before is not None and after is not None:
                found.append((example, before, after))
        return found

    def record(self, change: str, level: float) -> Record:
        """`value`: mean of the changed minus the clean score, with its interval by task, in units of the scale;
        `clean`, `attacked`: the two means; `label_mass`: median over the CoTs of changed examples; `bad_cots`: share of
        them that are not `ok`; `n`; `n_left_out`: examples that were not changed, since nothing in them is to be
        changed, or their prompt could not be, or would be too long; `n_unscored`: without a score on either side.
        """
        pairs, present = self.pairs(change), self._present(change)
        cots = [cot for example in present for cot in self.runs[_place(example, change)]]
        return {
            **self.mean([after - before for _, before, after in pairs], [example for example, _, _ in pairs], level),
            "clean": fmean(before for _, before, _ in pairs) if pairs else None,
            "attacked": fmean(after for _, _, after in pairs) if pairs else None,
            "label_mass": scoring.median_mass(Draws.of(cots)),
            "bad_cots": fmean(cot["status"] != "ok" for cot in cots) if cots else None,
            "n_left_out": len(self.examples) - len(present),
            "n_unscored": len(present) - len(pairs),
        }

    def mean(self, values: Sequence[float], examples: Sequence[Record], level: float) -> dict[str, Any]:
        """Of one number for each example, with its interval by task."""
        groups = [example["group_id"] for example in examples]
        return dict(statistics.mean_by_cluster(np.array(values), groups, level))

    def _present(self, change: str) -> list[Record]:
        return [example for example in self.examples if _place(example, change) in self.runs]


def _place(example: Record, change: str) -> Place:
    return f"{example['source']}/{change}", example["id"]
