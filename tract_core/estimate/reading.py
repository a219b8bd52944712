"""Files of verdicts, as `tract judge` writes them, with gold for some of the rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tract_core.base.errors import UserError, list_some
from tract_core.data import files
from tract_core.data.values import is_missing, listed, short
from tract_core.estimate.means import Rows

_SCORES = ("calibrated_score", "expected_score")
"""What a judge says of a row; of several that are there the first."""
_DEFAULT_TASK = "instruction"
_NOTHING = ("none", "null", "nan", "na")
"""What programs write into the cells of a CSV that hold nothing, in lower case."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The rows of a file that have a judge's score, and what was left out.

    A row without a score is left out whether it has gold or not, so that the labelled rows stay a sample of the others;
    the mean is then that of rows which the judge can score.
    """

    rows: Rows
    calibrated: int
    """Rows whose score is the calibrated one."""
    skipped_labelled: int
    """Rows without a score that have gold."""
    skipped: int
    """Rows without a score and without gold."""
    task: str | None
    """The column that says the task; None: each row is a task."""


def read(file: Path, *, gold: str, task: str | None = None) -> Judged:
    """Gold, scores and tasks of a file of verdicts.

    Args:
        file: of any kind that tract_core/data/files.py reads.
        gold: the column with gold; nothing stands in it where a row has none.
        task: the column that says which rows belong together; None: `instruction` where there is one.

    Raises:
        UserError: the file cannot be read, has no such columns, or holds something else in them.
    """
    found = list(files.read(file))
    names = _names(found)
    scores = [column for column in (_own(names, score) for score in _SCORES) if column]
    task = task or (_DEFAULT_TASK if _DEFAULT_TASK in names else None)
    _require_columns(file, names, gold, scores, task)
    gold_of, score_of, calibrated_of = _numbers(found, [gold], scores)
    tasks = _tasks(found, task)
    kept = [number for number, score in enumerate(score_of) if math.isfinite(score)]
    lost = [gold_of[number] for number, score in enumerate(score_of) if not math.isfinite(score)]
    return Judged(
        rows=Rows(
            gold=np.array([gold_of[number] for number in kept]),
            score=np.array([score_of[number] for number in kept]),
            tasks=[tasks[number] for number in kept],
        ),
        calibrated=sum(calibrated_of),
        skipped_labelled=sum(map(math.isfinite, lost)),
        skipped=len(lost) - sum(map(math.isfinite, lost)),
        task=task,
    )


def _names(found: Sequence[tuple[str, Any]]) -> list[str]:
    if wrong := [place for place, row in found if not isinstance(row, Mapping)]:
        raise UserError(f"{wrong[0]}: is no object with fields; give a file that `tract judge` wrote")
    return list(dict.fromkeys(name for _, row in found for name in row))


def _own(names: Sequence[str], score: str) -> str | None:
    """The judge's column: `tract judge` puts `_judge` behind a name that the file has already."""
    column = score
    while f"{column}_judge" in names:
        column += "_judge"
    return column if column in names else None


def _require_columns(file: Path, names: Sequence[str], gold: str, scores: Sequence[str], task: str | None) -> None:
    if not scores:
        raise UserError(f"{file}: has no column {_SCORES[1]!r}; judge it first: tract judge FOLDER {file}")
    for option, column in (("--gold", gold), ("--task", task)):
        if column is not None and column not in names:
            raise UserError(f"{file}: has no column {column!r} ({option}); columns found: {listed(names)}")


def _numbers(
    found: Sequence[tuple[str, Any]], gold: Sequence[str], scores: Sequence[str]
) -> tuple[list[float], list[float], list[bool]]:
    """Of each row gold and score, NaN where there is none, and whether the score is a calibrated one."""
    problems: list[str] = []

    def first(place: str, row: Mapping[str, Any], columns: Sequence[str]) -> tuple[float, str]:
        for column in columns:
            if not _is_nothing(value := row.get(column)):
                number = _number(value)
                if number is None:
                    problems.append(f"{place}: {column} must be a number, or empty, got {short(value)}")
                return (math.nan if number is None else number), column
        return math.nan, ""

    gold_of = [first(place, row, gold)[0] for place, row in found]
    score_of = [first(place, row, scores) for place, row in found]
    if problems:
        raise UserError(f"{len(problems)} value(s) are no scores; correct or empty them:\n{list_some(problems)}")
    return gold_of, [score for score, _ in score_of], [name.startswith(_SCORES[0]) for _, name in score_of]


def _is_nothing(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in ("", *_NOTHING))


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _tasks(found: Sequence[tuple[str, Any]], task: str | None) -> list[str]:
    """Without a column its place is a row's task, so that no row of another file has the same one."""
    if task is None:
        return [place for place, _ in found]
    if absent := [place for place, row in found if is_missing(row.get(task))]:
        raise UserError(
            f"{len(absent)} row(s) have no {task!r}, which says their task; fill it in, or name another column with "
            f"--task:\n{list_some(absent)}"
        )
    return [str(row[task]) for _, row in found]
