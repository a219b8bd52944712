"""Use a trained judge on rows without gold.

Run:    python -m pipeline.judge ADAPTER FILE [--out OUT] [--samples K] [--seed S]
Reads:  ADAPTER (a stage2 folder), FILE (.json, .jsonl or .parquet in the `plain` format, docs/data.md),
        `sampling` and `engine` of params.yaml
Writes: OUT (.jsonl or .parquet; default: FILE with the ending .scores.jsonl)
"""

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import common
from tract_core import config, raw, tables
from tract_core.errors import UserError
from tract_core.judge import Judge


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=1, help="CoTs for each row (K)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out: Path = arguments.out or arguments.file.with_suffix(".scores.jsonl")
    if out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"--out {out}: use a name that ends in .jsonl or .parquet")
    if arguments.samples < 1:
        raise UserError(f"--samples must be at least 1, got {arguments.samples}")
    params = config.load()
    records = raw.read_records(arguments.file.parent, arguments.file.name, split=None, revision=None)
    judge = Judge(arguments.adapter, params.sampling, params.engine)
    rows = [record.fields for record in records]
    verdicts = judge.score(rows, num_samples=arguments.samples, seed=arguments.seed)
    if out.suffix == ".jsonl":
        tables.write_text(out, "".join(json.dumps(verdict, ensure_ascii=False) + "\n" for verdict in verdicts))
    else:
        with tables.atomic_file(out) as draft:
            pq.write_table(pa.Table.from_pylist(verdicts), draft)
    return f"{len(verdicts)} rows x {arguments.samples} CoTs -> {out}"


if __name__ == "__main__":
    common.run(main)
