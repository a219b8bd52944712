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

from tract_core.base import config, process
from tract_core.judge import command, judging


def main() -> str:
    parser, params = process.Parser(), config.load()
    parser.add_argument("adapter")
    command.add_options(parser)
    given = parser.parse_args()
    return command.judged(
        given,
        lambda: judging.Judge(
            given.adapter, params.sampling, params.engine, params.score, temperature=given.temperature
        ),
    )


if __name__ == "__main__":
    process.run(main)
