"""The browser of predictions: which examples are shown, and how they enter the page as data that cannot run."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from tract_core.base.config import Score
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.report.cells import finite
from tract_core.score.draws import Draws
from tract_core.score.scoring import average, predictions_of, probabilities, spread_over_scale, usable

MOST_SHOWN = 200
"""Examples of a benchmark that are all shown."""
SPACED, WORST = 100, 50
"""Of a larger benchmark: that many by their ids alone, and that many with the judge's largest errors."""
_DIGITS = 6

Run = tuple[str, int | None, Sequence[Record]]
"""Row, its training seed (None: not trained here), its predictions table."""
Key = tuple[str, str]
"""Benchmark and id of an example."""


@dataclass(frozen=True, kw_only=True)
class Cot:
    """One CoT and the score read after it."""

    k: int
    cot: str
    status: str
    finish_reason: str
    probs: Sequence[float] | None
    """One for each score of Y, full-vocabulary softmax; None where there is no score."""
    label_mass: float | None
    sampled_score: float | None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One benchmark example as one row judged it."""

    row: str
    seed: int | None
    """Training seed; None for a judge that was not trained here."""
    run_seed: int
    """Inference seed."""
    bench: str
    id: str
    instruction: str
    response: str
    reference: str | None
    criteria: str
    descriptions: Sequence[str]
    gold: float
    expected_score: float | None
    """Mean over the K CoTs of the expected score (RAIL), in units of the scale."""
    spread: float | None
    """How unsure the judge is: standard deviation of its probabilities over the scale, averaged over the CoTs."""
    cots: Sequence[Cot]

    @property
    def key(self) -> Key:
        """What all rows that judged this example share."""
        return self.bench, self.id

    @property
    def error(self) -> float:
        """How far the score is from gold; less than any other where there is no score."""
        score = finite(self.expected_score)
        return -1.0 if score is None else abs(score - self.gold)


class Selection(NamedTuple):
    """What the browser shows."""

    shown: Sequence[Shown] = ()
    chosen: Mapping[Key, str] = {}
    """Why an example is shown: `all`, `spaced` or `worst`."""
    about: Sequence[str] = ()
    """How the examples of each benchmark were chosen, a sentence each."""


_EXAMPLE_FIELDS = ("bench", "id", "instruction", "response", "reference", "criteria", "descriptions", "gold")


def select(runs: Iterable[Run], examples: Sequence[Record], scale: ScoreScale, score: Score) -> Selection:
    """What is shown of each row: the same examples for all, chosen by the first one, the judge.

    The CoTs are those of the smallest inference seed.

    Args:
        runs: one run of each row, the judge first; rows without predictions are left out.
        examples: rows of the benchmarks' examples table.
        scale: Y.
        score: which CoTs count.
    """
    by_key = {(example["source"], example["id"]): example for example in examples}
    shown: list[Shown] = []
    chosen: dict[Key, str] = {}
    about: list[str] = []
    for row, seed, predictions in runs:
        found = _judged(row, seed, predictions, by_key, scale, score)
        if not shown:
            chosen, about = _choose(found)
        shown += [one for one in found if one.key in chosen]
    return Selection(shown, chosen, about)


def embed(selection: Selection, values_Y: Sequence[float], labels_Y: Sequence[str]) -> Markup:
    """What is shown as JSON for a `<script type="application/json">`; examples that rows share stand once.

    No character of it can end the element or start another one: `<`, `>` and `&` are written as escapes.
    """
    examples: dict[Key, dict[str, Any]] = {}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    places: dict[Key, int] = {}
    for one in selection.shown:
        places.setdefault(one.key, len(places))
        fields = {name: getattr(one, name) for name in _EXAMPLE_FIELDS}
        examples.setdefault(one.key, {**fields, "chosen": selection.chosen.get(one.key, "all")})
        rows[one.row].append(
            {
                "example": places[one.key],
                "seed": one.seed,
                "run_seed": one.run_seed,
                "expected_score": one.expected_score,
                "spread": one.spread,
                "cots": [asdict(cot) for cot in one.cots],
            }
        )
    content = {
        "values": list(values_Y),
        "labels": list(labels_Y),
        "examples": list(examples.values()),
        "rows": [{"row": row, "samples": found} for row, found in rows.items()],
    }
    return Markup(script_json(content))


def script_json(content: Any) -> str:
    """JSON that is safe inside a script element; floats have six digits, those that are not finite become null."""
    text = json.dumps(_rounded(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _choose(judged: Sequence[Shown]) -> tuple[dict[Key, str], list[str]]:
    """All examples of a small benchmark; of a large one a part that no judgement enters, and the worst errors."""
    chosen: dict[Key, str] = {}
    about = []
    for bench in sorted({one.bench for one in judged}):
        here = sorted((one for one in judged if one.bench == bench), key=lambda one: one.id)
        if len(here) <= MOST_SHOWN:
            chosen |= {one.key: "all" for one in here}
            about.append(f"{bench}: all {len(here)} examples.")
            continue
        spaced = [here[place * len(here) // SPACED] for place in range(SPACED)]
        chosen |= {one.key: "spaced" for one in spaced}
        rest = [one for one in here if one.key not in chosen]
        chosen |= {one.key: "worst" for one in sorted(rest, key=lambda one: -one.error)[:WORST]}
        about.append(
            f"{bench}: {SPACED + WORST} of {len(here)} examples: {SPACED} evenly spaced over the sorted ids, whatever "
            f"their scores, and of the others the {WORST} with the judge's largest errors."
        )
    return chosen, about


def _judged(
    row: str,
    seed: int | None,
    predictions: Sequence[Record],
    by_key: Mapping[Key, Record],
    scale: ScoreScale,
    score: Score,
) -> list[Shown]:
    """All examples of one run, in the order of benchmarks and ids."""
    run_seed = min((found["run_seed"] for found in predictions), default=0)
    of_seed = [found for found in predictions if found["run_seed"] == run_seed]
    cots, scores = defaultdict[Key, list[Record]](list), defaultdict[Key, list[float]](list)
    for found, value in zip(of_seed, predictions_of(Draws.of(of_seed), "rail", scale, score).tolist(), strict=True):
        cots[(found["source"], found["id"])].append(found)
        scores[(found["source"], found["id"])].append(value)
    return [
        Shown(
            row=row,
            seed=seed,
            run_seed=run_seed,
            bench=key[0],
            id=key[1],
            expected_score=average(scores[key]),
            spread=_spread(group, scale, score),
            cots=[_cot(found) for found in sorted(group, key=lambda found: found["k"])],
            **{name: by_key[key][name] for name in _EXAMPLE_FIELDS[2:]},
        )
        for key, group in sorted(cots.items())
    ]


def _spread(cots: Sequence[Record], scale: ScoreScale, score: Score) -> float | None:
    """None where no CoT that counts has a score, or the labels have no probability."""
    found = [probabilities(cot) for cot in cots if usable(cot, score)]
    read = [probs for probs in found if probs is not None and any(probs)]
    return float(spread_over_scale(np.mean(read, axis=0), scale.values)) if read else None


def _cot(found: Record) -> Cot:
    return Cot(**{name: found[name] for name in Cot.__dataclass_fields__})


def _rounded(content: Any) -> Any:
    if isinstance(content, float):
        return round(content, _DIGITS) if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {name: _rounded(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return content
