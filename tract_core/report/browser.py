"""The browser of predictions: which examples are shown, and how they enter the page as data that cannot run."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from tract_core.base.tables import Record
from tract_core.score.scoring import average, rail

SHOWN_PER_ROW = 40


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
    """One benchmark example as one model judged it."""

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
    cots: Sequence[Cot]


_EXAMPLE_FIELDS = ("bench", "id", "instruction", "response", "reference", "criteria", "descriptions", "gold")


def choose_shown(
    row: str,
    seed: int | None,
    predictions: Sequence[Record],
    examples: Sequence[Record],
    values_Y: Sequence[float],
    *,
    limit: int = SHOWN_PER_ROW,
) -> list[Shown]:
    """At most `limit` examples of one model, evenly spaced over each benchmark's sorted ids.

    No judgement enters the choice, and all models that judged the same examples show the same ones. The CoTs
    are those of the smallest inference seed.

    Args:
        row: the model.
        seed: its training seed.
        predictions: rows of its predictions table.
        examples: rows of the benchmarks' examples table.
        values_Y: the scores of Y, in order.
        limit: over all benchmarks together.
    """
    if not predictions:
        return []
    run_seed = min(found["run_seed"] for found in predictions)
    cots: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for found in predictions:
        if found["run_seed"] == run_seed:
            cots[(found["source"], found["id"])].append(found)
    by_key = {(example["source"], example["id"]): example for example in examples}
    benches = sorted({source for source, _ in cots})
    share = max(1, limit // len(benches))
    chosen = [key for bench in benches for key in _spaced(sorted(k for k in cots if k[0] == bench), share)]
    return [_shown(row, seed, run_seed, by_key[key], cots[key], values_Y) for key in chosen[:limit]]


def embed(shown: Sequence[Shown], values_Y: Sequence[float], labels_Y: Sequence[str]) -> Markup:
    """What is shown as JSON for a `<script type="application/json">`; examples that models share stand once.

    No character of it can end the element or start another one: `<`, `>` and `&` are written as escapes.
    """
    examples: dict[tuple[str, str], int] = {}
    listed: list[dict[str, Any]] = []
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in shown:
        place = examples.setdefault((one.bench, one.id), len(examples))
        if place == len(listed):
            listed.append({name: getattr(one, name) for name in _EXAMPLE_FIELDS})
        rows[one.row].append(
            {
                "example": place,
                "seed": one.seed,
                "run_seed": one.run_seed,
                "expected_score": one.expected_score,
                "cots": [asdict(cot) for cot in one.cots],
            }
        )
    content = {
        "values": list(values_Y),
        "labels": list(labels_Y),
        "examples": listed,
        "rows": [{"row": row, "samples": found} for row, found in rows.items()],
    }
    return Markup(script_json(content))


def script_json(content: Any) -> str:
    """JSON that is safe inside a script element; numbers that are not finite become null."""
    text = json.dumps(_without_nan(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _spaced(keys: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    if len(keys) <= count:
        return list(keys)
    return [keys[place * len(keys) // count] for place in range(count)]


def _shown(
    row: str, seed: int | None, run_seed: int, example: Record, cots: Sequence[Record], values_Y: Sequence[float]
) -> Shown:
    ordered = sorted(cots, key=lambda found: found["k"])
    scores = [None if found["probs"] is None else rail(found["probs"], values_Y) for found in ordered]
    return Shown(
        row=row,
        seed=seed,
        run_seed=run_seed,
        bench=example["source"],
        id=example["id"],
        expected_score=average(scores),
        cots=[Cot(**{name: found[name] for name in Cot.__dataclass_fields__}) for found in ordered],
        **{name: example[name] for name in _EXAMPLE_FIELDS[2:]},
    )


def _without_nan(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return content
