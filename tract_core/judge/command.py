"""The options with which a file is judged, the same for `tract judge` and `python -m pipeline.judge`."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tract_core.base.errors import UserError

KINDS = ".csv, .json, .jsonl, .parquet, each perhaps with .gz, or a folder"


def add_options(parser: argparse.ArgumentParser) -> None:
    """FILE and how it is judged."""
    parser.add_argument("file", type=Path, help=KINDS)
    parser.add_argument("--out", type=Path, help="ends as one of these; default: FILE.scores with the same ending")
    add_reading(parser)
    parser.add_argument(
        "--skip-bad", action="store_true", help="rows that cannot be judged get a verdict that says why"
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """What the columns of a file are, and which CoTs are drawn for each row."""
    parser.add_argument("--columns", default="", help="as in instruction=question,response=answer")
    parser.add_argument("--rubric", type=Path, help="YAML or JSON with `criteria` and `descriptions`")
    parser.add_argument("--samples", type=int, default=1, help="CoTs for each row; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="another seed samples other CoTs; default: %(default)s")
    parser.add_argument("--temperature", type=float, help="of the CoTs, in place of the judge's own")


def require_possible(given: argparse.Namespace) -> None:
    """The options of `add_reading` before anything is opened.

    Raises:
        UserError: one cannot be.
    """
    if given.samples < 1:
        raise UserError(f"--samples must be at least 1, got {given.samples}")
    if given.temperature is not None and not 0 < given.temperature < math.inf:
        raise UserError(f"--temperature must be a number above 0, got {given.temperature}")


def judged(given: argparse.Namespace, open_judge: Callable[[], Any], *, interval: float | None = None) -> str:
    """Judge `given.file`; `open_judge` is called once all else is known to be right.

    Raises:
        UserError: as tract_core.judge.files.judge_file, or an option that cannot be.
    """
    require_possible(given)
    from tract_core.judge import files  # with all that a judge needs, which takes seconds

    return files.judge_file(
        open_judge,
        given.file,
        given.out,
        columns=files.columns_of(given.columns),
        rubric=given.rubric and files.read_rubric(given.rubric),
        num_samples=given.samples,
        seed=given.seed,
        skip_bad=given.skip_bad,
        interval=interval,
    )
