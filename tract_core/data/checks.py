"""What can be proved with the tokenizer alone, before any model loads: labels, template, lengths."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tract_core.base.errors import UserError, list_some
from tract_core.base.tables import Record
from tract_core.text import prompt_cache
from tract_core.text.encoding import Encoder
from tract_core.text.examples import judge_input


class Lengths(NamedTuple):
    """Tokens of the longest sequence of a table."""

    num_rows: int
    longest: int


def proof(encoder: Encoder) -> dict[str, Any]:
    """What later stages rely on; the same for the same tokenizer, prompt and scale, whatever the data."""
    return {
        "delimiter_ids": list(encoder.score_tokens.delimiter_ids),
        "label_ids": dict(zip(encoder.scale.labels, encoder.score_tokens.label_ids, strict=True)),
        "stop_ids": encoder.stop_ids,
        "template_exact": encoder.template_exact,
        "encoder": encoder.fingerprint(),
    }


def check_lengths(
    encoder: Encoder,
    tables: Mapping[str, Sequence[Record]],
    *,
    max_length: int,
    max_new_tokens: int,
    work: str | Path = "work",
) -> dict[str, Lengths]:
    """The longest sequence of each table, with room for a generated CoT or the annotator's, delimiter, score, end.

    Raises:
        UserError: some sequence is longer than `max_length`; ids and lengths are listed. Nothing is cut.
    """
    too_long, longest = list[str](), {}
    for name, rows in tables.items():
        prompts = prompt_cache.prompt_ids(encoder, rows, work)
        lengths = [length(encoder, row, prompts[row["source"], row["id"]], max_new_tokens) for row in rows]
        too_long += [
            f"{name}, id {row['id']}: {found} tokens"
            for row, found in zip(rows, lengths, strict=True)
            if found > max_length
        ]
        longest[name] = Lengths(num_rows=len(rows), longest=max(lengths, default=0))
    if too_long:
        raise UserError(
            f"{len(too_long)} sequence(s) are longer than model.max_length ({max_length}); raise it, lower "
            f"sampling.max_new_tokens ({max_new_tokens}), or take these rows out:\n{list_some(too_long)}"
        )
    return longest


def length(encoder: Encoder, row: Record, prompt_ids: Sequence[int], max_new_tokens: int) -> int:
    """Tokens of an example's longest sequence: prompt, a generated CoT or the annotator's, delimiter, score, end."""
    annotator = len(encoder.cot_ids(row["annotator_cot"])) if row["annotator_cot"] else 0
    tail = len(encoder.score_tokens.delimiter_ids) + 2
    return len(prompt_ids) + max(annotator, max_new_tokens) + tail


def unfit(encoder: Encoder, row: Record, *, max_length: int, max_new_tokens: int) -> str | None:
    """Why one row cannot be a sequence of this model: it is too long, or its text cannot be encoded; None if it can."""
    try:
        found = length(encoder, row, encoder.prompt_ids(judge_input(row)), max_new_tokens)
    except UserError as error:
        return str(error)
    if found <= max_length:
        return None
    return f"{found} tokens with room for a CoT of {max_new_tokens}, more than model.max_length ({max_length})"
