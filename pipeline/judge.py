"""Use a trained judge on rows without gold.

Run:    python -m pipeline.judge ADAPTER FILE [--out OUT] [--columns C] [--rubric R] [--samples K] [--seed S]
            [--temperature T] [--skip-bad]
        --columns C      which column is which field, as in instruction=question,response=answer
        --rubric R       a file (YAML or JSON) with `criteria` and `descriptions`, for rows without their own
        --samples K      CoTs for each row; default 1
        --seed S         another seed samples other CoTs; default 0
        --temperature T  of the CoTs, in place of sampling.temperature
        --skip-bad       a row that breaks a rule or is too long gets a verdict that says why; else it stops the command
Reads:  ADAPTER (artifacts/adapters/ROW/seed_N), `sampling`, `engine` and `score` of params.yaml, FILE in the `plain`
        format (docs/data.md): .csv, .json, .jsonl, .parquet, each perhaps with .gz, or a folder
Writes: OUT, which ends as one of these; default: FILE.scores with the same ending. It must not be there yet
"""

import argparse
import math
from pathlib import Path

from tract_core.base import config, process
from tract_core.base.errors import UserError
from tract_core.judge import files, judging


def main() -> str:
    given, params = _arguments(), config.load()
    cooler = {} if given.temperature is None else {"temperature": given.temperature}
    sampling = params.sampling.model_copy(update=cooler)
    return files.judge_file(
        lambda: judging.Judge(given.adapter, sampling, params.engine, params.score),
        given.file,
        given.out,
        columns=files.columns_of(given.columns),
        rubric=given.rubric and files.read_rubric(given.rubric),
        num_samples=given.samples,
        seed=given.seed,
        skip_bad=given.skip_bad,
    )


def _arguments() -> argparse.Namespace:
    parser = process.Parser()
    parser.add_argument("adapter")
    for name in ("file", "--out", "--rubric"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--columns", default="")
    for name, kind, default in (("--samples", int, 1), ("--seed", int, 0), ("--temperature", float, None)):
        parser.add_argument(name, type=kind, default=default)
    parser.add_argument("--skip-bad", action="store_true")
    given = parser.parse_args()
    if given.samples < 1:
        raise UserError(f"--samples must be at least 1, got {given.samples}")
    if given.temperature is not None and not 0 < given.temperature < math.inf:
        raise UserError(f"--temperature must be a number above 0, got {given.temperature}")
    return given


if __name__ == "__main__":
    process.run(main)
