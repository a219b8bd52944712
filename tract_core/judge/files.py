"""A file of rows to judge -> a file of the same kind with the verdicts beside them.

from tract_core.judge import files
print(files.judge_file(lambda: Judge(...), Path("replies.csv"), columns={"instruction": "question"}))
"""

import json
import logging
import os
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tract_core.base import tables
from tract_core.base.config import Rubric
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale
from tract_core.data import columns as own_columns
from tract_core.data import files, inputs, raw
from tract_core.data.formats import UNSCORED
from tract_core.judge import verdicts as words
from tract_core.judge import writing
from tract_core.judge.judging import Judge

logger = logging.getLogger(__name__)

_BAR, _MOST_LINES = 40, 20  # characters of the longest line of the chart, and lines


def judge_file(
    open_judge: Callable[[], Judge],
    file: Path,
    out: Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    rubric: Rubric | None = None,
    num_samples: int = 1,
    seed: int = 0,
    skip_bad: bool = False,
    interval: float | None = None,
) -> str:
    """Judge all rows of a file and write them with their verdicts.

    Args:
        open_judge: makes the judge; called once all is known to be readable and writable.
        file: of any kind that tract_core/data/files.py reads, or a folder.
        out: ends in one of the same kinds; None: `default_out(file)`.
        columns: field -> column of the file, where they have other names.
        rubric: for rows that have none of their own.
        num_samples: CoTs for each row.
        seed: another seed samples other CoTs.
        skip_bad: a row that cannot be judged gets a verdict that says why.
        interval: see Judge.score.

    Returns:
        A summary of several lines.

    Raises:
        UserError: the file cannot be read, the output cannot be written or is there already, or rows cannot be judged.
    """
    out = out or default_out(file)
    _require_free(out, file)
    records = raw.read_records(file.parent, file.name, split=None, revision=None)
    given, style = [record.fields for record in records], files.csv_style(file)
    writing.require_writable(given, out)
    known = inputs.known_fields(UNSCORED, "plain")
    read = own_columns.renamed(records, columns, known=known, file=str(file), where="--columns")
    judge = open_judge()
    require_fitting(rubric, judge.scale)
    rows = [record.fields for record in own_columns.with_rubric(read, rubric)]
    verdicts = judge.score(rows, num_samples=num_samples, seed=seed, skip_bad=skip_bad, interval=interval)
    writing.write(out, given, verdicts, judge.scale.labels, csv_style=style)
    other_use = words.other_use(judge.opened.calibration, num_samples, judge.sampling.temperature)
    for warning in filter(None, (words.warning(verdicts), other_use)):
        logger.warning(warning)
    return f"{words.health(verdicts)} -> {out}\n{summary(verdicts, judge.scale)}"


def require_fitting(rubric: Rubric | None, scale: ScoreScale) -> None:
    """A rubric for all rows describes scores of the judge.

    Raises:
        UserError: it describes others, or its list has more or fewer than the judge has scores.
    """
    try:
        _ = rubric and rubric.complete(scale)
    except ValueError as error:
        own = ", ".join(scale.labels)
        raise UserError(f"the rubric's descriptions: {error}; this judge's scores are {own}") from None


def default_out(file: Path) -> Path:
    """`replies.csv.gz` -> `replies.scores.csv.gz`; of a folder `replies` -> `replies.scores.parquet`."""
    file = file if file.name.strip(".") else file.resolve()  # `.` has no name of its own
    found = files.kind_of(file)
    kind, packed = found or (".parquet", False)
    ending = f"{kind}{files.PACKED if packed else ''}"
    return file.with_name(f"{file.name[: -len(ending)] if found else file.name}.scores{ending}")


def columns_of(option: str) -> dict[str, str]:
    """`instruction=question,response=answer` -> field -> column; the name of a column may hold a comma.

    Raises:
        UserError: a part is not FIELD=COLUMN.
    """
    parts = [part.partition("=") for part in re.split(r",(?=\w+=)", option)] if option else []
    if wrong := ["".join(part) for part in parts if not (part[0] and part[2])]:
        raise UserError(f"--columns {option}: {wrong[0]!r} is not FIELD=COLUMN, as in instruction=question")
    return {field: column for field, _, column in parts}


def read_rubric(file: Path) -> Rubric:
    """The rubric in a file of YAML or JSON with `criteria` and `descriptions`.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        return Rubric.model_validate(json.loads(text) if file.suffix == ".json" else yaml.safe_load(text))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); --rubric names a file of YAML or JSON") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # of JSON, of UTF-8, of what it holds
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(
            f"{file}: no rubric ({why}); it must hold `criteria`, a text, and `descriptions`, a list with a text for "
            "each score or a text for each of some scores"
        ) from None


def summary(verdicts: Sequence[Mapping[str, Any]], scale: ScoreScale) -> str:
    """How many rows, their mean expected score, and how many lie nearest to each score of the scale.

    Scores of a large scale share lines, each as many as the others.
    """
    scores = [verdict["expected_score"] for verdict in verdicts if verdict["expected_score"] is not None]
    mean = f", mean expected score {statistics.fmean(scores):.2f}" if scores else ""
    without = f", {len(verdicts) - len(scores)} without a score" if len(scores) < len(verdicts) else ""
    num, size = len(scale.values), -(-len(scale.values) // _MOST_LINES)
    nearest = [min(range(num), key=lambda place: abs(scale.values[place] - score)) for score in scores]
    found = Counter(place // size for place in nearest)
    ends = [(scale.labels[at], scale.labels[min(at + size, num) - 1]) for at in range(0, num, size)]
    names = [low if low == high else f"{low} to {high}" for low, high in ends]
    width = max(map(len, names))
    lines = [
        f"  {name:>{width}} {found[place]:>6} {'#' * -(-_BAR * found[place] // max(found.values()))}".rstrip()
        for place, name in enumerate(names)
        if scores
    ]
    return "\n".join([f"  rows: {len(verdicts)}{mean}{without}", *lines])


def _require_free(out: Path, file: Path) -> None:
    """Before hours of work: that its result can be written, and replaces nothing.

    Raises:
        UserError: it is the input, is there already, cannot be written, or is of no known kind.
    """
    writing.kind_of(out)
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
