"""Rows of the examples table as what the judge reads, and as pairs with a CoT to learn from."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tract_core.prompts import JudgeInput
from tract_core.tables import Row

logger = logging.getLogger(__name__)


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


def pair_with_own_cots(examples: Sequence[Row], cots: Sequence[Row], *, keep_bad: bool) -> list[tuple[Row, str]]:
    """Each training example with the CoT that p_s wrote for it (section 3.2: its score is discarded, gold stays).

    Bad CoTs are left out, and counted in the log, unless `keep_bad`.
    """
    by_id = {(row["source"], row["id"]): row for row in cots}
    pairs = [(row, by_id[(row["source"], row["id"])]) for row in examples]
    kept = [(row, cot["cot"]) for row, cot in pairs if cot["status"] == "ok" or keep_bad]
    if len(kept) < len(pairs):
        missing = len(pairs) - len(kept)
        logger.warning("%d of %d examples have no usable CoT of their own and are left out", missing, len(pairs))
    return kept
