"""Token ids of prompts on disk, by content: a prompt is tokenised once, whatever stages, rows and seeds read it.

Prompts are most of the tokens (1,300 of 1,550 in Feedback Collection). A file holds those that were new to one call;
its name is the sha256 of its bytes, so two processes can write the same and a damaged one is noticed. The folder's
name covers all that decides the ids: tokenizer, chat template, prompt style and the code that renders them.
"""

import dataclasses
import hashlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers

from tract_core.base import tables
from tract_core.base.tables import Record, content_hash
from tract_core.text import chat_template, encoding, prompts
from tract_core.text.encoding import Encoder
from tract_core.text.examples import judge_input
from tract_core.text.prompts import JudgeInput

logger = logging.getLogger(__name__)

_LEAST = 200
"""Rows for which the files are opened: fewer are tokenised in less than half a second."""
_FIELDS = [field.name for field in dataclasses.fields(JudgeInput)]
"""Columns of an examples table that decide a prompt."""
_SCHEMA = pa.schema([("key", pa.string()), ("ids", pa.list_(pa.int32()))])


def prompt_ids(encoder: Encoder, rows: Sequence[Record], work: str | Path = "work") -> dict[tuple[str, str], list[int]]:
    """(source, id) -> ids of `Encoder.prompt_ids`, for rows of an examples table.

    Args:
        encoder: the renderer.
        rows: rows of an examples table.
        work: what has been tokenised is kept below, in `tokens`; it can be deleted at any time.
    """
    examples = {(row["source"], row["id"]): row for row in rows}
    if len(examples) < _LEAST:
        return {place: encoder.prompt_ids(judge_input(row)) for place, row in examples.items()}
    folder = Path(work) / "tokens" / _version(encoder)
    keys = {place: content_hash({name: row[name] for name in _FIELDS}) for place, row in examples.items()}
    found = _read(folder, set(keys.values()))
    missing = {key: examples[place] for place, key in keys.items() if key not in found}
    new = {key: encoder.prompt_ids(judge_input(row)) for key, row in missing.items()}
    if new and os.environ.get("RANK", "0") == "0":  # ranks of one training ask for the same
        _write(folder, new)
    return {place: found[key] if key in found else new[key] for place, key in keys.items()}


def _version(encoder: Encoder) -> str:
    """A name for everything but the row that decides a prompt's ids."""
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    code = [tables.file_sha256(str(module.__file__)) for module in (encoding, prompts, chat_template)]
    rules = None if backend is None else backend.to_str()
    return content_hash([encoder.fingerprint(), rules, tokenizers.__version__, code])[:16]


def _read(folder: Path, wanted: set[str]) -> dict[str, list[int]]:
    """Those of the wanted prompts that some whole file holds."""
    found = dict[str, list[int]]()
    for file in sorted(folder.glob("*.parquet")):
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != file.stem:
            logger.warning("%s: its bytes are not those that were written; its prompts are tokenised again", file)
            file.unlink()
            continue
        table = pq.read_table(io.BytesIO(content)).combine_chunks()
        column = table["ids"].chunk(0)
        ids, ends = column.values.to_numpy(), column.offsets.to_numpy()
        for row, key in enumerate(table["key"].to_pylist()):
            if key in wanted:
                found[key] = ids[ends[row] : ends[row + 1]].tolist()
    return found


def _write(folder: Path, new: Mapping[str, Sequence[int]]) -> None:
    ends = np.cumsum([0, *(len(ids) for ids in new.values())], dtype=np.int32)
    flat = np.fromiter((token for ids in new.values() for token in ids), dtype=np.int32, count=int(ends[-1]))
    content = io.BytesIO()
    columns = [pa.array(new), pa.ListArray.from_arrays(pa.array(ends), pa.array(flat))]
    pq.write_table(pa.table(columns, schema=_SCHEMA), content, compression="zstd", write_statistics=False)
    name = hashlib.sha256(content.getvalue()).hexdigest()
    with tables.atomic_file(folder / f"{name}.parquet") as draft:
        draft.write_bytes(content.getvalue())
