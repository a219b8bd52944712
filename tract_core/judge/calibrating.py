"""An exported judge and rows that people rated -> what its scores mean, in its judge.json.

from tract_core.judge import calibrating
print(calibrating.calibrate(lambda: Judge("my-judge"), Path("my-judge"), Path("rated.csv")))
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tract_core.base.config import Rubric
from tract_core.base.errors import UserError, list_some
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.calibrate import calibration as fitting
from tract_core.calibrate.calibration import Found, Judged
from tract_core.data import columns as own_columns
from tract_core.data import inputs, raw
from tract_core.data.formats import RowReader
from tract_core.data.raw import RawRecord
from tract_core.data.values import BadRowError
from tract_core.judge import card, files
from tract_core.judge import verdicts as words
from tract_core.judge.folder import FILE, write_calibration
from tract_core.judge.judging import Judge

logger = logging.getLogger(__name__)

LEVEL = 0.9
"""Of the interval that the summary speaks of."""


def calibrate(
    open_judge: Callable[[], Judge],
    folder: Path,
    gold: Path,
    *,
    columns: Mapping[str, str] | None = None,
    rubric: Rubric | None = None,
    num_samples: int = 1,
    seed: int = 0,
    few_tasks: bool = False,
) -> str:
    """Judge rated rows, fit the calibration, and write it into the judge's folder.

    Args:
        open_judge: makes the judge of `folder`.
        folder: what `tract export` wrote.
        gold: a file of the format `plain` with `score` or `scores`, which the judge has not learnt from.
        columns: field -> column of the file, where they have other names.
        rubric: for rows that have none of their own.
        num_samples: CoTs for each row: as many as the judge will be used with.
        seed: another seed samples other CoTs.
        few_tasks: take fewer tasks than a calibration should have.

    Returns:
        A summary of several lines.

    Raises:
        UserError: the folder is no exported judge, rows break the rules, or too few of them have a score.
    """
    if not (folder / FILE).exists():
        raise UserError(f"{folder}: no exported judge (it has no {FILE}); `tract export` makes one of an adapter")
    judge = open_judge()
    files.require_fitting(rubric, judge.scale)
    records = own_columns.with_rubric(_records(gold, columns, judge.scale), rubric)
    rated = rated_rows(gold, records, judge.scale)
    verdicts = judge.score([record.fields for record in records], num_samples=num_samples, seed=seed)
    if warning := words.warning(verdicts):
        logger.warning(warning)
    judged = judged_rows(rated, verdicts)
    settings: dict[str, Any] = {"num_samples": num_samples, "temperature": judge.sampling.temperature}
    found = fitting.calibrated(judged, judge.scale.values, **settings, few_tasks=few_tasks)
    write_calibration(folder, found.calibration, partial(card.with_calibration, calibration=found.calibration))
    return f"{judge.opened.name} is calibrated -> {folder / FILE}\n{summary(found, judged, len(rated))}"


def _reader(scale: ScoreScale) -> RowReader:
    return RowReader(scale=scale, delimiter="", missing_delimiter="append", training=False, source="gold")


def _records(gold: Path, columns: Mapping[str, str] | None, scale: ScoreScale) -> list[RawRecord]:
    records = raw.read_records(gold.parent, gold.name, split=None, revision=None)
    known = inputs.known_fields(_reader(scale).fields("plain"), "plain")
    return own_columns.renamed(records, columns, known=known, file=str(gold), where="--columns")


def rated_rows(gold: Path, records: Sequence[RawRecord], scale: ScoreScale) -> list[Record]:
    """The rows of the examples table, each with its gold, in order.

    Raises:
        UserError: rows break the rules of the format `plain`, or none has a field that all need.
    """
    reader, rows, problems = _reader(scale), list[Record](), list[str]()
    if problem := inputs.missing_fields(str(gold), records, reader.fields("plain")):
        raise UserError(problem)
    for record in records:
        try:
            rows += reader.rows(record, "plain")
        except BadRowError as error:
            problems.append(f"{record.place}: {error}")
    if problems:
        raise UserError(f"{len(problems)} row(s) cannot be used for a calibration:\n{list_some(problems)}")
    return rows


def judged_rows(rated: Sequence[Record], verdicts: Sequence[Mapping[str, Any]]) -> Judged:
    """The rows with gold and a score; those whose CoTs failed are left out.

    Raises:
        UserError: none has a score.
    """
    pairs = [(row, one) for row, one in zip(rated, verdicts, strict=True) if one["sd_scale"] is not None]
    if not pairs:
        raise UserError(f"none of {len(rated)} rated row(s) got a score: {words.health(verdicts)}")
    return Judged(
        ids=[row["id"] for row, _ in pairs],
        tasks=[row["group_id"] for row, _ in pairs],
        gold_N=np.array([row["gold"] for row, _ in pairs], dtype=np.float64),
        scores_N=np.array([one["expected_score"] for _, one in pairs], dtype=np.float64),
        probs_NY=np.array([one["probs"] for _, one in pairs], dtype=np.float64),
        sds_N=np.array([one["sd_scale"] for _, one in pairs], dtype=np.float64),
    )


def summary(found: Found, judged: Judged, num_rated: int) -> str:
    """What the calibration rests on, what it is worth, and what scores of the judge stand for."""
    one = found.calibration
    without = num_rated - one.rows
    lines = [
        f"rows: {one.rows} of {one.tasks} tasks"
        + (f"; {without} more have no score and are left out" if without else ""),
        f"map: {one.map.kind}, {fitting.describe(one.map)}",
        "measured on tasks that the map was not fitted to:",
        f"{'':<28}{'before':>8}{'after':>8}",
        *(
            f"{what:<28}{_number(getattr(one.before, name)):>8}{_number(getattr(one.after, name)):>8}"
            for what, name in (("  RMSE", "rmse"), ("  expected calibration error", "ece"), ("  r", "r"))
        ),
        _coverage(found),
        f"{'score':>7}{'calibrated':>12}{'gold':>7}{'rows':>6}",
        *_table(found, judged),
    ]
    return "\n".join(f"  {line}" for line in lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _coverage(found: Found) -> str:
    one = next(one for one in found.coverage if one.level == LEVEL)
    level = f"{100 * LEVEL:g} % interval"
    if one.share is None:
        return f"{level}: too few tasks for it"
    return (
        f"{level}: holds gold in {100 * one.share:.0f} % of {found.calibration.tasks} tasks; mean width {one.width:.1f}"
    )


def _table(found: Found, judged: Judged) -> list[str]:
    """Rows in bins by the judge's own score: its mean, that of the calibrated scores, and that of gold."""
    own, calibrated = (fitting.reliability(judged.scores_N, gold_N) for gold_N in (judged.gold_N, found.scores_N))
    return [
        f"{one.score:>7.2f}{other.gold:>12.2f}{one.gold:>7.2f}{one.n:>6}"
        for one, other in zip(own, calibrated, strict=True)
    ]
