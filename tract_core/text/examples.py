"""Rows of the examples table as what the judge reads, and as pairs with a CoT to learn from."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tract_core.base.errors import UserError
from tract_core.base.tables import Record, content_hash
from tract_core.text.prompts import JudgeInput

logger = logging.getLogger(__name__)

_NO_FEEDBACK = (
    "{lacking} of {all} training rows have no feedback, such as id {id}, and this judge learns from it (`cots` in "
    "params.yaml). Write in each row why its response has its score, a sentence or two, or train judges that give a "
    "score alone: `make rows R=b4`"
)
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


def pair_with_annotator(examples: Sequence[Record], *, cot: bool, leave_out: bool = False) -> list[Pair]:
    """Each training example with the annotator's CoT, or without any.

    Args:
        examples: the training table.
        cot: whether the judge learns from the annotator's CoTs.
        leave_out: examples without one are left out, as long as others have one.

    Raises:
        UserError: the judge learns from CoTs, and examples have none.
    """
    if not cot:
        return [(row, None) for row in examples]
    pairs: list[Pair] = [(row, row["annotator_cot"]) for row in with_feedback(examples)]
    if lacking := len(examples) - len(pairs):
        if not (leave_out and pairs):
            first = next(row["id"] for row in examples if row["annotator_cot"] is None)
            raise UserError(_NO_FEEDBACK.format(lacking=lacking, all=len(examples), id=first))
        logger.warning("%d of %d training rows have no feedback and are left out", lacking, len(examples))
    return pairs


def with_feedback(examples: Sequence[Record]) -> list[Record]:
    """Those with an annotator's CoT."""
    return [row for row in examples if row["annotator_cot"] is not None]


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
