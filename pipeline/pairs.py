"""Which of two responses to each question a judge finds better, derived from its scores (no judge of pairs is trained).

Run:    python -m pipeline.pairs FILE_A FILE_B [--out OUT]
Reads:  FILE_A, FILE_B (what `pipeline.judge` wrote of the two responses, under the same ids; a field `task` may say
        which ids belong together), `statistics` of params.yaml
Writes: OUT (default: FILE_A with the ending .pairs.jsonl), which must not be there yet: a line for each id
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tract_core.base import config, process, tables
from tract_core.base.errors import UserError
from tract_core.compare import statistics
from tract_core.data import raw
from tract_core.score import pairs


def main() -> str:
    given = _arguments()
    found = pairs.of_verdicts(_verdicts(given.file_a), _verdicts(given.file_b))
    scored = [pair for pair in found if pair["reason"] is None]
    wins, tasks = np.array([pair["win"] for pair in scored]), [str(pair["task"]) for pair in scored]
    rate = statistics.mean_by_cluster(wins, tasks, config.load().statistics.level)
    tables.write_text(given.out, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in found))
    value = "undefined" if rate["value"] is None else f"{rate['value']:.3f}"
    interval = (
        f" ({rate['reason']})" if rate["low"] is None else f" [{max(0, rate['low']):.3f}, {min(1, rate['high']):.3f}]"
    )
    ties, without = sum(pair["preference"] == "tie" for pair in scored), len(found) - len(scored)
    return (
        f"A wins {value}{interval} of {len(scored)} pairs of {len(set(tasks))} tasks, {ties} ties counted half; "
        f"{without} without a score are left out -> {given.out}"
    )


def _arguments() -> argparse.Namespace:
    parser = process.Parser()
    parser.add_argument("file_a", type=Path)
    parser.add_argument("file_b", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    given.out = given.out or given.file_a.with_suffix(".pairs.jsonl")
    if os.path.lexists(given.out):
        raise UserError(f"{given.out}: exists already; remove it, or name another file with --out")
    return given


def _verdicts(file: Path) -> list[dict[str, Any]]:
    """Those of a file, each with an id."""
    records = raw.read_records(file.parent, file.name, split=None, revision=None)
    if bad := [record.place for record in records if record.fields.get("id") is None or "probs" not in record.fields]:
        raise UserError(f"{len(bad)} rows have no `id` or no `probs`, as pipeline.judge writes them; first {bad[0]}")
    return [record.fields for record in records]


if __name__ == "__main__":
    process.run(main)
