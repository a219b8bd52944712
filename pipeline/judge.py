"""Use a trained judge on rows without gold.

Run:    python -m pipeline.judge ADAPTER FILE [--out OUT] [--samples K] [--seed S] [--temperature T] [--skip-bad]
        --samples K      CoTs for each row; default 1
        --seed S         another seed samples other CoTs; default 0
        --temperature T  of the CoTs, in place of sampling.temperature
        --skip-bad       a row that breaks a rule or is too long gets a verdict that says why; else it stops the command
Reads:  ADAPTER (artifacts/adapters/ROW/seed_N), FILE (.json, .jsonl or .parquet in the `plain` format, docs/data.md),
        `sampling`, `engine` and `score` of params.yaml
Writes: OUT (.jsonl or .parquet; default: FILE with the ending .scores.jsonl), which must not be there yet
"""

import argparse
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tract_core.base import config, process, tables
from tract_core.base.errors import UserError
from tract_core.data import raw
from tract_core.judge import verdicts as words
from tract_core.judge.judging import Judge

logger = logging.getLogger(__name__)


def main() -> str:
    arguments = _arguments()
    out: Path = arguments.out or arguments.file.with_suffix(".scores.jsonl")
    _require_free(out, arguments.file)
    params = config.load()
    sampling = params.sampling
    if arguments.temperature is not None:
        sampling = sampling.model_copy(update={"temperature": arguments.temperature})
    records = raw.read_records(arguments.file.parent, arguments.file.name, split=None, revision=None)
    verdicts = Judge(arguments.adapter, sampling, params.engine, params.score).score(
        [record.fields for record in records],
        num_samples=arguments.samples,
        seed=arguments.seed,
        skip_bad=arguments.skip_bad,
    )
    _write(out, verdicts)
    if warning := words.warning(verdicts):
        logger.warning(warning)
    return f"{words.health(verdicts)} -> {out}"


def _arguments() -> argparse.Namespace:
    parser = process.Parser()
    parser.add_argument("adapter")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--skip-bad", action="store_true")
    given = parser.parse_args()
    if given.out and given.out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"--out {given.out}: use a name that ends in .jsonl or .parquet")
    if given.samples < 1:
        raise UserError(f"--samples must be at least 1, got {given.samples}")
    if given.temperature is not None and not 0 < given.temperature < math.inf:
        raise UserError(f"--temperature must be a number above 0, got {given.temperature}")
    return given


def _require_free(out: Path, file: Path) -> None:
    """Before hours of work: that its result can be written, and replaces nothing.

    Raises:
        UserError: it is the input, is there already, or cannot be written.
    """
    try:
        if out.exists() and file.exists() and out.samefile(file):
            raise UserError(f"--out {out}: is the file of the rows to judge; name another file")
        if os.path.lexists(out):
            raise UserError(f"{out}: exists already; remove it, or name another file with --out")
        with tables.atomic_file(out) as draft:
            draft.touch()
        out.unlink()
    except OSError as error:
        why = error.strerror
        raise UserError(f"{out}: cannot be written ({why}); name a file in another folder with --out") from None


def _write(out: Path, verdicts: list[dict[str, Any]]) -> None:
    if out.suffix == ".jsonl":
        tables.write_text(out, "".join(json.dumps(verdict, ensure_ascii=False) + "\n" for verdict in verdicts))
    else:
        with tables.atomic_file(out) as draft:
            pq.write_table(pa.Table.from_pylist(verdicts), draft)


if __name__ == "__main__":
    process.run(main)
