"""Use a trained judge on rows without gold.

Run:    python -m pipeline.judge ADAPTER FILE [--out OUT] [--samples K] [--seed S] [--temperature T]
Reads:  ADAPTER (artifacts/adapters/ROW/seed_N), FILE (.json, .jsonl or .parquet in the `plain` format, docs/data.md),
        `sampling` and `engine` of params.yaml
Writes: OUT (.jsonl or .parquet; default: FILE with the ending .scores.jsonl)
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tract_core.base import config, process, tables
from tract_core.base.errors import UserError
from tract_core.data import raw
from tract_core.judge import Judge


def main() -> str:
    arguments = _arguments()
    out: Path = arguments.out or arguments.file.with_suffix(".scores.jsonl")
    params = config.load()
    sampling = params.sampling
    if arguments.temperature is not None:
        sampling = sampling.model_copy(update={"temperature": arguments.temperature})
    records = raw.read_records(arguments.file.parent, arguments.file.name, split=None, revision=None)
    judge = Judge(arguments.adapter, sampling, params.engine)
    rows = [record.fields for record in records]
    verdicts = judge.score(rows, num_samples=arguments.samples, seed=arguments.seed)
    _write(out, verdicts)
    return f"{len(verdicts)} rows x {arguments.samples} CoTs -> {out}"


def _arguments() -> argparse.Namespace:
    parser = process.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=1, help="CoTs for each row (K)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, help="of the CoTs, in place of sampling.temperature")
    given = parser.parse_args()
    if given.out and given.out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"--out {given.out}: use a name that ends in .jsonl or .parquet")
    if given.samples < 1:
        raise UserError(f"--samples must be at least 1, got {given.samples}")
    if given.temperature is not None and not 0 < given.temperature < math.inf:
        raise UserError(f"--temperature must be a number above 0, got {given.temperature}")
    return given


def _write(out: Path, verdicts: list[dict[str, Any]]) -> None:
    if out.suffix == ".jsonl":
        tables.write_text(out, "".join(json.dumps(verdict, ensure_ascii=False) + "\n" for verdict in verdicts))
    else:
        with tables.atomic_file(out) as draft:
            pq.write_table(pa.Table.from_pylist(verdicts), draft)


if __name__ == "__main__":
    process.run(main)
