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
    """What a table's sequences need, those that are too long left aside."""

    num_rows: int
    longest: int
    """Tokens of the longest sequence."""
    largest_id: int
    """The largest token id in prompts and the annotator's CoTs."""
    too_long: dict[str, int]
    """Id -> tokens of each sequence that is longer than `max_length`."""


def proof(encoder: Encoder) -> dict[str, Any]:
    """What later stages rely on; the same for the same tokenizer, prompt and scale, whatever the data."""
    return {
        "delimiter_ids": list(encoder.score_tokens.delimiter_ids),
        "label_ids": dict(zip(encoder.scale.labels, encoder.score_tokens.plain_ids, strict=True)),
        "stop_ids": encoder.stop_ids,
        "template_exact": encoder.template_exact,
        # Only where it is so: the judges of other templates stay valid.
        **({} if encoder.answers_exact else {"answers_exact": False}),
        "encoder": encoder.fingerprint(),
    }


def describe_scores(encoder: Encoder) -> str:
    """How many tokens a score is, and where several what reading one takes."""
    trie = encoder.score_tokens.trie
    if trie.is_flat:
        return "each score is one token"
    return f"scores are up to {trie.depth + 1} tokens, one is read by {len(trie.nodes)} requests"


def check_lengths(
    encoder: Encoder,
    tables: Mapping[str, Sequence[Record]],
    *,
    max_length: int,
    max_new_tokens: int,
    drop: bool = False,
    work: str | Path = "work",
) -> dict[str, Lengths]:
    """The longest sequence of each table, with room for a generated CoT or the annotator's, delimiter, score, end.

    Args:
        encoder: the renderer.
        tables: name -> examples.
        max_length: `model.max_length`.
        max_new_tokens: `sampling.max_new_tokens`.
        drop: sequences that are too long are returned instead of refused, as long as a table has others.
        work: where ids of prompts are kept.

    Raises:
        UserError: some sequence is longer than `max_length`; ids and lengths are listed. Nothing is cut.
    """
    found = {name: _lengths(encoder, rows, max_length, max_new_tokens, work) for name, rows in tables.items()}
    too_long = describe_too_long(found)
    if too_long and not (drop and all(len(one.too_long) < one.num_rows for one in found.values())):
        raise UserError(
            f"{len(too_long)} sequence(s) are longer than model.max_length ({max_length}); raise it, lower "
            f"sampling.max_new_tokens ({max_new_tokens}), or take these rows out:\n{list_some(too_long)}"
        )
    return found


def describe_too_long(lengths: Mapping[str, Lengths]) -> list[str]:
    """Table, id and tokens of each sequence that is too long."""
    return [
        f"{name}, id {row}: {tokens} tokens"
        for name, found in lengths.items()
        for row, tokens in found.too_long.items()
    ]


def _lengths(
    encoder: Encoder, rows: Sequence[Record], max_length: int, max_new_tokens: int, work: str | Path
) -> Lengths:
    prompts = prompt_cache.prompt_ids(encoder, rows, work)
    cots = [_annotator_ids(encoder, row) for row in rows]
    given = [prompts[row["source"], row["id"]] for row in rows]
    tokens = [_length(encoder, *ids, max_new_tokens) for ids in zip(given, cots, strict=True)]
    return Lengths(
        num_rows=len(rows),
        longest=max((one for one in tokens if one <= max_length), default=0),
        largest_id=max((token for ids in [*given, *cots] for token in ids), default=0),
        too_long={row["id"]: one for row, one in zip(rows, tokens, strict=True) if one > max_length},
    )


def check_model(
    encoder: Encoder, lengths: Mapping[str, Lengths], *, vocabulary: int, readable: int | None, max_length: int
) -> None:
    """What the tokenizer makes must be what the model reads.

    Args:
        encoder: the renderer.
        lengths: from `check_lengths`.
        vocabulary: rows of the model's embedding.
        readable: tokens of the longest sequence that the model was made for, where its config says so.
        max_length: `model.max_length`.

    Raises:
        UserError: a token has no row in the embedding, or `max_length` is more than the model can read.
    """
    scores = [token for path in encoder.score_tokens.label_paths for token in path]
    own = [*scores, *encoder.score_tokens.delimiter_ids, *encoder.stop_ids]
    largest = max([*own, *(found.largest_id for found in lengths.values())])
    if largest >= vocabulary:
        raise UserError(
            f"token {encoder.tokenizer.convert_ids_to_tokens(largest)!r} has the id {largest}, but the model's "
            f"embedding has {vocabulary} rows: the tokenizer in model.source is not that of its weights; put the right "
            "one there"
        )
    if readable is not None and max_length > readable:
        raise UserError(
            f"model.max_length ({max_length}) is more than the {readable} tokens that the model can read "
            "(max_position_embeddings in its config.json); lower it"
        )


def length(encoder: Encoder, row: Record, prompt_ids: Sequence[int], max_new_tokens: int) -> int:
    """Tokens of an example's longest sequence: prompt, a generated CoT or the annotator's, delimiter, score, end."""
    return _length(encoder, prompt_ids, _annotator_ids(encoder, row), max_new_tokens)


def _length(encoder: Encoder, prompt_ids: Sequence[int], annotator: Sequence[int], max_new_tokens: int) -> int:
    tail = encoder.score_length + 1
    return len(prompt_ids) + max(len(annotator), max_new_tokens) + tail


def _annotator_ids(encoder: Encoder, row: Record) -> list[int]:
    return encoder.cot_ids(row["annotator_cot"]) if row["annotator_cot"] else []


def unfit(encoder: Encoder, row: Record, *, max_length: int, max_new_tokens: int) -> str | None:
    """Why one row cannot be a sequence of this model: it is too long, or its text cannot be encoded; None if it can."""
    try:
        found = length(encoder, row, encoder.prompt_ids(judge_input(row)), max_new_tokens)
    except UserError as error:
        return str(error)
    if found <= max_length:
        return None
    return f"{found} tokens with room for a CoT of {max_new_tokens}, more than model.max_length ({max_length})"
