"""Token ids of prompts on disk, by content: a prompt is tokenised once, whatever stages, rows and seeds read it.

Prompts are most of the tokens (1,300 of 1,550 in Feedback Collection). A shard holds those that were new to one call.
The folder's name covers all that decides the ids: tokenizer, chat template, prompt style and the code that renders
them.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import tokenizers

from tract_core.base import tables
from tract_core.base.shards import NAME, Shards
from tract_core.base.tables import Record, content_hash
from tract_core.text import chat_template, encoding, prompts
from tract_core.text.encoding import Encoder
from tract_core.text.examples import judge_input
from tract_core.text.prompts import JudgeInput

_LEAST = 200
"""Rows for which the files are opened: fewer are tokenised in less than half a second."""
_FIELDS = [field.name for field in dataclasses.fields(JudgeInput)]
"""Columns of an examples table that decide a prompt."""
_SCHEMA = pa.schema([(NAME, pa.string()), ("ids", pa.list_(pa.int32()))])


def prompt_ids(encoder: Encoder, rows: Sequence[Record], work: str | Path = "work") -> dict[tuple[str, str], list[int]]:
    """(source, id) -> ids of `Encoder.prompt_ids`, for rows of an examples table; see PromptCache."""
    return PromptCache(encoder, work).ids(rows)


class PromptCache:
    """The prompts of one encoder; for rows that are asked for in parts."""

    def __init__(self, encoder: Encoder, work: str | Path = "work") -> None:
        """`work`: what has been tokenised is kept below, in `tokens`; it can be deleted at any time."""
        self._encoder, self._work = encoder, Path(work)
        self._shards: Shards | None = None

    def ids(self, rows: Sequence[Record]) -> dict[tuple[str, str], list[int]]:
        """(source, id) -> ids of `Encoder.prompt_ids`, for rows of an examples table."""
        examples = {(row["source"], row["id"]): row for row in rows}
        if len(examples) < _LEAST:
            return {place: self._encoder.prompt_ids(judge_input(row)) for place, row in examples.items()}
        shards = self._opened()
        keys = {place: content_hash({name: row[name] for name in _FIELDS}) for place, row in examples.items()}
        missing = {key: examples[place] for place, key in keys.items() if key not in shards}
        found = _listed(shards.take(set(keys.values())))
        new = {key: self._encoder.prompt_ids(judge_input(row)) for key, row in missing.items()}
        if new and os.environ.get("RANK", "0") == "0":  # ranks of one training ask for the same
            shards.add(_table(new))
        return {place: found[key] if key in found else new[key] for place, key in keys.items()}

    def _opened(self) -> Shards:
        if self._shards is None:
            folder = self._work / "tokens" / _version(self._encoder)
            self._shards = Shards(folder, _SCHEMA, "its prompts are tokenised again")
        return self._shards


def _version(encoder: Encoder) -> str:
    """A name for everything but the row that decides a prompt's ids."""
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    code = [tables.file_sha256(str(module.__file__)) for module in (encoding, prompts, chat_template)]
    rules = None if backend is None else backend.to_str()
    return content_hash([encoder.fingerprint(), rules, tokenizers.__version__, code])[:16]


def _listed(parts: Iterable[pa.Table]) -> dict[str, list[int]]:
    found = dict[str, list[int]]()
    for part in parts:
        column = part["ids"].combine_chunks()
        ids, ends = column.values.to_numpy(), column.offsets.to_numpy()
        for row, key in enumerate(part[NAME].to_pylist()):
            found[key] = ids[ends[row] : ends[row + 1]].tolist()
    return found


def _table(new: Mapping[str, Sequence[int]]) -> pa.Table:
    ends = np.cumsum([0, *(len(ids) for ids in new.values())], dtype=np.int32)
    flat = np.fromiter((token for ids in new.values() for token in ids), dtype=np.int32, count=int(ends[-1]))
    return pa.table([pa.array(new), pa.ListArray.from_arrays(pa.array(ends), pa.array(flat))], schema=_SCHEMA)
