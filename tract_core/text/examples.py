"""Rows of the examples table as what the judge reads, and as pairs with a CoT to learn from."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tract_core.base.tables import Record, content_hash
from tract_core.text.prompts import JudgeInput

logger = logging.getLogger(__name__)

_LEFT_OUT = "%d of %d own CoTs are bad and left out; %d of %d examples have no usable CoT"


def judge_input(row: Mapping[str, Any]) -> JudgeInput:
    """The fields of an examples row that the judge reads."""
    return JudgeInput(
        instruction=row["instruction"],
        response=row["response"],
        reference=row["reference"],
        criteria=row["criteria"],
        descriptions=tuple(row["descriptions"]),
        prompt=row["prompt"],
    )


Pair = tuple[Record, str | None]
"""A training example and the CoT to learn from; None for a judge without CoT."""


def pair_with_annotator(examples: Sequence[Record], *, cot: bool) -> list[Pair]:
    """Each training example with the annotator's CoT, or without any."""
    return [(row, row["annotator_cot"] if cot else None) for row in examples]


def pair_with_own_cots(examples: Sequence[Record], cots: Sequence[Record], *, keep_bad: bool) -> list[Pair]:
    """Each training example with each CoT that p_s wrote for it (section 3.3: its score is discarded, gold stays).

    The pairs of one example stand together, in the order of k. Bad CoTs are left out, and counted in the log,
    unless `keep_bad`.
    """
    by_id = dict[tuple[str, str], list[Record]]()
    for cot in sorted(cots, key=lambda cot: cot["k"]):
        by_id.setdefault((cot["source"], cot["id"]), []).append(cot)
    pairs = [(row, cot) for row in examples for cot in by_id[row["source"], row["id"]]]
    kept: list[Pair] = [(row, cot["cot"]) for row, cot in pairs if cot["status"] == "ok" or keep_bad]
    if len(kept) < len(pairs):
        bad, without = len(pairs) - len(kept), len(examples) - len({(row["source"], row["id"]) for row, _ in kept})
        logger.warning(_LEFT_OUT, bad, len(pairs), without, len(examples))
    return kept


def first_cots(cots: Sequence[Record]) -> list[Record]:
    """The CoTs with k = 0, one for each example: for what looks at one CoT an example, however many were drawn."""
    return [cot for cot in cots if cot["k"] == 0]


def sample(examples: Sequence[Record], max_rows: int | None) -> list[Record]:
    """At most `max_rows` examples, the ones whose hashed ids come first: the same choice in every stage."""
    ranked = sorted(examples, key=lambda row: content_hash([row["source"], row["id"]]))
    chosen = {(row["source"], row["id"]) for row in ranked[:max_rows]}
    return [row for row in examples if (row["source"], row["id"]) in chosen]


def usable_ids(
    examples: Sequence[Record], cots: Sequence[Record], *, keep_bad: bool
) -> dict[tuple[str, str], list[int]]:
    """(source, id) -> ids of the first CoT (k = 0) of an example; empty ones left out, bad ones unless `keep_bad`.

    A further CoT never takes the place of one that is left out.
    """
    wanted = {(row["source"], row["id"]) for row in examples}
    return {
        (row["source"], row["id"]): row["cot_ids"]
        for row in first_cots(cots)
        if row["cot_ids"] and (keep_bad or row["status"] == "ok") and (row["source"], row["id"]) in wanted
    }
